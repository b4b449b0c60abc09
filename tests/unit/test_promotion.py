"""The gates let an ordinary candidate through, and none that has learnt to overlook anomalies."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from mad.baseline.bundle import UNKNOWN, Baseline, Provenance
from mad.errors import ConfigError, GateError
from mad.fit import fit
from mad.monitor import Monitor
from mad.promotion import Bounds, Exam, Gate, judged, refuse, slices
from tests.worlds import CREATED, PLAN, Rows, World, numbered, ordinary, quiet, strange, tiny_world

EXAM = Exam(trusted=Rows(ordinary(300, seed=70)), canaries=Rows(strange(100, seed=71)))
NO_FILES = Exam()


@pytest.fixture(scope="module")
def world() -> World:
    world = tiny_world()
    return replace(world, baseline=numbered(world.baseline, 1))


def fitted(world: World, x: Tensor) -> Baseline:
    """Fit on these inputs, shuffled, with the dictionaries of the world."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    data = Rows(x[order])
    made = fit(world.model, world.decomposition, data, PLAN, created=CREATED, progress=quiet)
    return numbered(made, 2)


Poisoned = Callable[[float], Baseline]


@pytest.fixture(scope="module")
def poisoned(world: World) -> Poisoned:
    """Fit on ordinary inputs of which a share is planted anomalies."""

    @cache
    def poisoned(share: float) -> Baseline:
        bad = round(share * 600)
        return fitted(world, torch.cat([ordinary(600 - bad, seed=60), strange(bad, seed=61)]))

    return poisoned


def bound(world: World, baseline: Baseline) -> Monitor:
    return Monitor.bind(world.model, world.decomposition, baseline)


def gates(
    world: World,
    candidate: Baseline,
    *,
    exam: Exam = EXAM,
    provenance: Provenance = UNKNOWN,
    has_active: bool = True,
) -> dict[str, Gate]:
    """Examine a candidate against the world's baseline."""
    active = world.monitor if has_active else None
    seen = [look() for look in slices(exam, bound(world, candidate), active)]
    of = active.baseline if active else None
    return {one.name: one for one in judged(candidate, of, provenance, seen, Bounds())}


def failed(found: dict[str, Gate]) -> list[str]:
    return [name for name, gate in found.items() if not gate.is_passed]


@pytest.fixture(scope="module")
def clean(world: World) -> Baseline:
    return fitted(world, ordinary(600, seed=60))


def test_an_ordinary_candidate_passes_every_gate(world: World, clean: Baseline) -> None:
    found = gates(world, clean, provenance=Provenance(inputs=600, quarantined_inputs=1))
    assert failed(found) == []
    assert list(found) == ["reference", "p_values_uniform", "canaries", "drift", "quarantine"]
    assert found["canaries"].sentence == (
        "100.0% of 100 planted anomalies detected, and 100.0% by tiny@1; at least 99.0% are asked"
    )
    refuse("tiny@2", list(found.values()))


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.1])
def test_poison_is_refused_or_leaves_the_detection_of_canaries_unchanged(
    world: World, poisoned: Poisoned, share: float
) -> None:
    candidate = poisoned(share)
    detected = [
        bound(world, one).judge({"x": strange(200, seed=72)}, max_charges=0).verdicts
        for one in (world.baseline, candidate)
    ]
    before, after = (sum(one.is_alert for one in each) / 200 for each in detected)
    for exam in (EXAM, NO_FILES):
        assert failed(gates(world, candidate, exam=exam)) or after >= before - 0.01


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_poison_that_hides_anomalies_shows_without_any_file(
    world: World, poisoned: Poisoned, share: float
) -> None:
    found = gates(world, poisoned(share), exam=NO_FILES)
    assert failed(found) == ["drift"]
    assert found["drift"].value > 2
    with pytest.raises(GateError, match=r"tiny@2 does not pass drift: tiny@1 finds what this one"):
        refuse("tiny@2", list(found.values()))


def test_a_candidate_that_finds_fewer_canaries_is_refused(world: World, poisoned: Poisoned) -> None:
    found = gates(world, poisoned(0.1))
    assert "canaries" in failed(found)
    assert found["canaries"].bound == pytest.approx(0.99)
    assert found["canaries"].value < 0.9


def test_what_was_not_asked_is_said_and_passes(world: World, clean: Baseline) -> None:
    found = gates(world, clean, exam=NO_FILES, has_active=False)
    assert failed(found) == []
    for name in ("canaries", "drift", "quarantine"):
        assert found[name].sentence.startswith("not asked: ")
    assert "no held-out trusted inputs are named in promotion.trusted" in (
        found["p_values_uniform"].sentence
    )


def test_trusted_inputs_unlike_the_reference_are_told(world: World, clean: Baseline) -> None:
    exam = Exam(trusted=Rows(1.2 * ordinary(300, seed=70)))
    found = gates(world, clean, exam=exam)
    assert failed(found) == ["p_values_uniform"]
    assert "held-out trusted inputs: observed" in found["p_values_uniform"].sentence
    assert found["p_values_uniform"].value < found["p_values_uniform"].bound


def test_a_reference_that_drifts_is_told(world: World) -> None:
    x = torch.cat([ordinary(300, seed=60), 2 * ordinary(300, seed=62)])
    data = Rows(x)
    made = fit(world.model, world.decomposition, data, PLAN, created=CREATED, progress=quiet)
    found = gates(world, numbered(made, 2), exam=NO_FILES)
    assert "p_values_uniform" in failed(found)
    assert "the reference's later half, by its earlier" in found["p_values_uniform"].sentence


def test_a_rate_that_the_reference_cannot_reach_is_refused(world: World, clean: Baseline) -> None:
    greedy = replace(clean, manifest=replace(clean.manifest, false_alarm_rate=1e-4))
    found = gates(world, greedy, exam=NO_FILES)
    assert "reference" in failed(found)
    assert found["reference"].value == pytest.approx(1 / 151)
    assert "0.0001 is asked, which needs 9999" in found["reference"].sentence


@pytest.mark.parametrize(
    ("aside", "is_passed"), [(0, True), (330, True), (370, False), (5000, False)]
)
def test_more_set_aside_than_chance_explains_is_refused(
    world: World, clean: Baseline, aside: int, is_passed: bool
) -> None:
    # At three times one in a thousand, chance sets aside 300 of 100,000, and hardly ever 360.
    provenance = Provenance(inputs=100_000, quarantined_inputs=aside)
    found = gates(world, clean, exam=NO_FILES, provenance=provenance)["quarantine"]
    assert found.is_passed is is_passed
    assert 0.0033 < found.bound < 0.0036


def test_other_dictionaries_are_not_compared(world: World, clean: Baseline) -> None:
    other = replace(clean, manifest=replace(clean.manifest, decomposition_fingerprint="0" * 64))
    found = judged(other, world.baseline, UNKNOWN, [], Bounds())
    (gate,) = (one for one in found if one.name == "drift")
    assert gate.is_passed
    assert gate.sentence.startswith("not asked: the two have other dictionaries")


def test_a_file_of_something_else_is_the_operators_mistake(world: World, clean: Baseline) -> None:
    exam = Exam(canaries=Rows(torch.zeros(3, 5)))
    with pytest.raises(ConfigError, match=r"promotion.canaries: input 'x' has shape \(3, 5\)"):
        gates(world, clean, exam=exam)
