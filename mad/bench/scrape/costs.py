"""What a scrape and counting a request in cost by themselves: a baseline in, CPU out."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry

from mad.judgement import Judgement
from mad.metrics import MAX_BASELINES, TRAFFIC, Metrics, Rpc
from mad.metrics.exposition import exposition
from mad.metrics.table import Scored
from mad.monitor import Monitor
from mad.service.clock import utc_now
from mad.service.objective import Objective
from mad.service.observed import Observations
from mad.service.registry import Registry
from mad.streams.monitor import Reading
from mad.types import Verdict

REPEATS: Final = 20_000
KINDS: Final[tuple[Scored, ...]] = (*TRAFFIC, "shadow")
OPEN: Final = "application/openmetrics-text; version=1.0.0"


def crowd(metrics: Metrics, verdicts: Sequence[Verdict]) -> None:
    """Give figures to as many further baselines as get labels of their own."""
    for number in range(MAX_BASELINES - 1):
        for traffic in KINDS:
            metrics.scored(f"other-{number}", traffic, verdicts)


def scrape_cpu(monitor: Monitor, judgement: Judgement, *, times: int = 15) -> tuple[float, int]:
    """Return the median CPU of a scrape, in milliseconds, and how many lines it is.

    As many baselines as get labels of their own score; each has been fed every kind of traffic
    since the scrape before, so that all of it is to be counted and every promise to be read.
    """
    collectors = CollectorRegistry()
    metrics = Metrics(collectors, model="bench", false_alarm_rates=[0.01])
    observations = Observations(clock=utc_now)
    monitors = [_named(monitor, f"baseline-{number}") for number in range(MAX_BASELINES)]
    registry = Registry(monitors, default="baseline-0")
    metrics.calibration.read_from(Objective(registry, observations).changes)
    taken, written = [], b""
    for _ in range(times):
        for one in monitors:
            _feed(metrics, observations, one, judgement)
        begun = time.thread_time()
        written, _ = exposition(collectors, OPEN)
        taken.append(time.thread_time() - begun)
    return 1e3 * float(np.median(taken)), written.count(b"\n")


def _named(monitor: Monitor, name: str) -> Monitor:
    baseline = monitor.baseline
    manifest = replace(baseline.manifest, name=name)
    return replace(monitor, baseline=replace(baseline, manifest=manifest))


def _feed(
    metrics: Metrics, observations: Observations, monitor: Monitor, judgement: Judgement
) -> None:
    """Let a baseline have scored, in every way that has series."""
    manifest = monitor.baseline.manifest
    metrics.baseline_loaded(manifest, digest="0" * 8)
    for traffic in KINDS:
        metrics.scored(manifest.name, traffic, judgement.verdicts)
    for traffic in TRAFFIC:
        observations.feed(monitor.baseline, traffic, judgement)
    readings = [Reading("fast", 1.0, 16.6, None), Reading("never_false", 1.0, 7.6, None)]
    metrics.stream_read(manifest.name, readings, inputs=1, began=manifest.created)


def bookkeeping_us(monitor: Monitor, judgement: Judgement, *, times: int = REPEATS) -> float:
    """Return the CPU of counting one scored request of one input in, in microseconds."""
    metrics = Metrics(CollectorRegistry(), model="bench", false_alarm_rates=[0.01])
    observations = Observations(clock=utc_now)
    call = metrics.calls.of(Rpc("unary", "mad.v1.ScoringService", "Score"))
    name = monitor.baseline.manifest.name
    begun = time.thread_time()
    for _ in range(times):
        call.started.inc()
        call.received.inc()
        metrics.request_started()
        metrics.batch_ran(1, judgement.stage_seconds)
        metrics.scored(name, "live", judgement.verdicts)
        observations.feed(monitor.baseline, "live", judgement)
        metrics.request_ended()
        call.sent.inc()
        call.ended("OK", 0.001)
    return 1e6 * (time.thread_time() - begun) / times
