"""Who is suspected of feeling along the threshold, and who is not."""

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from prometheus_client import CollectorRegistry

from mad.baseline.bundle import Manifest
from mad.metrics import Metrics
from mad.service.auth.probing import MAX_CALLERS, Probing
from mad.types import Part, Verdict
from tests.web.conftest import MANIFEST

RATE = 0.01
NEAR = RATE**0.95
"""A p-value of 95 % of the threshold's bits."""


@dataclass
class Watched:
    """What watches, with the time it is told."""

    probing: Probing
    collectors: CollectorRegistry
    manifest: Manifest
    now: list[float]

    def suspicions(self, reason: str) -> float:
        labels = {"model": "m", "reason": reason}
        return self.collectors.get_sample_value("mad_probe_suspicions_total", labels) or 0.0

    def saw(self, name: str, *verdicts: Verdict) -> None:
        self.probing.saw(name, self.manifest, verdicts)


@pytest.fixture
def watched() -> Watched:
    collectors = CollectorRegistry()
    metrics = Metrics(collectors, model="m", false_alarm_rates=[RATE])
    manifest = replace(MANIFEST, false_alarm_rate=RATE, reference_inputs=20_000)
    now = [0.0]
    return Watched(Probing(metrics, clock=lambda: now[0]), collectors, manifest, now)


def verdict(p: float, *, set_bits: float = 1.0) -> Verdict:
    part = Part("1", "set", float(set_bits), 1.0, None)
    return Verdict(1.0, 1.0, 1.0, 1.0, p, p <= RATE, (part,), 0, 4)


def uniform(count: int, *, seed: int) -> Iterator[Verdict]:
    draw = random.Random(seed)
    for _ in range(count):
        yield verdict(draw.random(), set_bits=draw.random())


def test_ordinary_callers_are_not_suspected(watched: Watched) -> None:
    for number in range(10):
        for one in uniform(2_000, seed=number):
            watched.saw(f"caller-{number}", one)
    assert watched.suspicions("near_threshold") == 0
    assert watched.suspicions("near_duplicate") == 0


def test_a_caller_who_stays_near_the_threshold_is_suspected_within_ten_inputs(
    watched: Watched,
) -> None:
    for number in range(10):
        watched.saw("eve", verdict(NEAR, set_bits=number))
    assert watched.suspicions("near_threshold") == 1
    assert watched.suspicions("near_duplicate") == 0


def test_a_caller_who_hides_among_ordinary_inputs_is_suspected_too(watched: Watched) -> None:
    ordinary = uniform(1000, seed=1)
    for number, one in enumerate(ordinary):
        watched.saw("eve", verdict(NEAR, set_bits=number) if number % 8 == 0 else one)
    assert watched.suspicions("near_threshold") >= 1


def test_surprising_inputs_alike_are_suspected_and_ordinary_ones_alike_are_not(
    watched: Watched,
) -> None:
    watched.saw("probe", *[verdict(0.5)] * 10_000)
    assert watched.suspicions("near_duplicate") == 0
    watched.saw("eve", *[verdict(RATE / 2)] * 20)
    assert watched.suspicions("near_duplicate") >= 1
    assert watched.suspicions("near_threshold") == 0


def test_callers_are_told_apart(watched: Watched) -> None:
    for number in range(100):
        watched.saw(f"caller-{number}", verdict(NEAR, set_bits=1), verdict(0.5))
    assert watched.suspicions("near_threshold") == 0


def test_a_period_has_one_warning_with_the_name(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for now in (0.0, 59.0, 60.0):
        watched.now[0] = now
        watched.saw("eve", *(verdict(NEAR, set_bits=number) for number in range(100)))
    warnings = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert [one.__dict__["principal"] for one in warnings] == ["eve", "eve"]
    assert watched.suspicions("near_threshold") > 20


def test_memory_is_bounded(watched: Watched) -> None:
    for number in range(3 * MAX_CALLERS):
        watched.saw(f"caller-{number}", verdict(NEAR))
    assert len(watched.probing) == MAX_CALLERS


def test_what_is_not_a_number_is_no_probe(watched: Watched) -> None:
    watched.saw("eve", *[verdict(float("nan"))] * 100)
    assert watched.suspicions("near_threshold") == 0
