"""What the page says in numbers, read from the same registry that Prometheus scrapes."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, Literal, final

from prometheus_client import CollectorRegistry
from prometheus_client.registry import RestrictedRegistry

from mad.calibration.health import Interval, binomial_interval, promised_interval
from mad.metrics import TRAFFIC, Traffic
from mad.types import MEASURES, Measure
from mad.web.objective import Objective, objectives

CONFIDENCE: Final = 0.99

_RATE: Final = "mad_baseline_alpha_ratio"

_Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """A histogram: ``counts[i]`` values in ``(edges[i - 1], edges[i]]``, the last above all."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def at_most(self, edge: float) -> int:
        """Return how many values lie at or below an edge."""
        return sum(n for upper, n in zip(self.edges, self.counts, strict=False) if upper <= edge)


@final
@dataclass(frozen=True, slots=True)
class Tally:
    """How many inputs were scored: all, live ones, and live ones that alarm."""

    inputs: int
    live: int
    live_alarms: int


@final
@dataclass(frozen=True, slots=True)
class Calibration:
    """Observed against nominal alarms of one kind of traffic under one baseline.

    ``observed`` holds the true alarm rate with 99 % confidence. ``promised`` holds the alarm rate
    of ordinary traffic for 99 % of references of ``reference`` inputs: a finite reference promises
    the nominal rate only on average over references.
    """

    baseline: str
    traffic: Traffic
    nominal: float
    reference: int
    alarms: int
    p_values: Counts
    rarities: Mapping[Measure, Counts]
    observed: Interval
    promised: Interval

    @property
    def inputs(self) -> int:
        """How many inputs the rates are over."""
        return self.p_values.total

    @property
    def rate(self) -> float:
        """The share of inputs that alarm."""
        return self.alarms / self.inputs

    @property
    def standing(self) -> Literal["as promised", "more", "fewer"]:
        """Say whether the observed rate can be a promised one."""
        if self.observed.low > self.promised.high:
            return "more"
        return "fewer" if self.observed.high < self.promised.low else "as promised"


@final
@dataclass(frozen=True, slots=True)
class Evidence:
    """What one channel says of live traffic, taken together, under one baseline.

    ``alarmed`` is when the standing alarm was raised; None stands for no alarm.
    """

    baseline: str
    channel: str
    inputs: int
    began: datetime
    evidence_bits: float
    threshold_bits: float
    alarmed: datetime | None


@final
@dataclass(frozen=True, slots=True)
class Figures:
    """Everything the page takes from the registry."""

    scored: int
    alerts: int
    waiting: int
    open_incidents: int
    shed: int
    invalid: int
    log_errors: int
    calibrations: tuple[Calibration, ...]
    objectives: tuple[Objective, ...]
    evidence: tuple[Evidence, ...]


def tally(registry: CollectorRegistry) -> Tally:
    """Read a few counts, which is cheap."""
    samples = _samples(registry.restricted_registry(["mad_p_value_bucket", _RATE]))
    rates = {labels["baseline"]: rate for labels, rate in samples.get(_RATE, [])}
    inputs = live = alarms = 0
    for labels, value in samples.get("mad_p_value_bucket", []):
        if labels["traffic"] not in TRAFFIC:
            continue  # what the shadow scores has been scored already
        edge, is_live = float(labels["le"]), labels["traffic"] == "live"
        if math.isinf(edge):
            inputs += round(value)
            live += round(value) * is_live
        if is_live and edge == rates.get(labels["baseline"]):
            alarms += round(value)
    return Tally(inputs, live, alarms)


def read(registry: CollectorRegistry) -> Figures:
    """Read the registry once."""
    samples = _samples(registry)
    return Figures(
        scored=_total(samples, "mad_inputs_scored_total"),
        alerts=_total(samples, "mad_alerts_total"),
        waiting=_total(samples, "mad_queue_depth"),
        open_incidents=_total(samples, "mad_incidents_open"),
        shed=_total(samples, "mad_requests_shed_total"),
        invalid=_total(samples, "mad_invalid_inputs_total"),
        log_errors=_total(samples, "mad_alert_log_errors_total"),
        calibrations=tuple(_calibrations(samples)),
        objectives=tuple(objectives(samples)),
        evidence=tuple(_evidence(samples)),
    )


def _samples(registry: CollectorRegistry | RestrictedRegistry) -> _Samples:
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for family in registry.collect():
        for sample in family.samples:
            samples[sample.name].append((sample.labels, sample.value))
    return samples


def _total(samples: _Samples, name: str) -> int:
    return round(sum(value for _, value in samples.get(name, [])))


def _calibrations(samples: _Samples) -> list[Calibration]:
    references = {
        labels["baseline"]: round(value)
        for labels, value in samples.get("mad_baseline_reference_samples", [])
    }
    found = []
    for labels, rate in samples.get(_RATE, []):
        baseline = labels["baseline"]
        for traffic in TRAFFIC:
            p_values = _counts(samples, "mad_p_value_bucket", baseline, traffic)
            if not p_values.total:
                continue
            alarms = p_values.at_most(rate)
            found.append(
                Calibration(
                    baseline=baseline,
                    traffic=traffic,
                    nominal=rate,
                    reference=references.get(baseline, 0),
                    alarms=alarms,
                    p_values=p_values,
                    rarities={
                        measure: _counts(
                            samples, f"mad_{measure}_shannons_bucket", baseline, traffic
                        )
                        for measure in MEASURES
                    },
                    observed=binomial_interval(alarms, p_values.total, confidence=CONFIDENCE),
                    promised=promised_interval(
                        rate, references.get(baseline, 0), confidence=CONFIDENCE
                    ),
                )
            )
    return found


def _evidence(samples: _Samples) -> Iterator[Evidence]:
    inputs, began = (
        {labels["baseline"]: value for labels, value in samples.get(name, [])}
        for name in ("mad_stream_inputs", "mad_stream_begin_timestamp_seconds")
    )
    bits, alarmed = (
        {(labels["baseline"], labels["channel"]): value for labels, value in samples.get(name, [])}
        for name in ("mad_stream_threshold_shannons", "mad_stream_alarm_timestamp_seconds")
    )
    for labels, evidence in samples.get("mad_stream_evidence_shannons", []):
        baseline, channel = labels["baseline"], labels["channel"]
        yield Evidence(
            baseline=baseline,
            channel=channel.replace("_", " "),
            inputs=round(inputs[baseline]),
            began=datetime.fromtimestamp(began[baseline], UTC),
            evidence_bits=evidence,
            threshold_bits=bits[baseline, channel],
            alarmed=_moment(alarmed[baseline, channel]),
        )


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _counts(samples: _Samples, name: str, baseline: str, traffic: Traffic) -> Counts:
    """Turn the cumulative buckets of one histogram into counts."""
    cumulative = sorted(
        (float(labels["le"]), round(value))
        for labels, value in samples.get(name, [])
        if labels["baseline"] == baseline and labels["traffic"] == traffic
    )
    below = [0, *(count for _, count in cumulative)]
    return Counts(
        edges=tuple(edge for edge, _ in cumulative if math.isfinite(edge)),
        counts=tuple(after - before for before, after in pairwise(below)),
    )
