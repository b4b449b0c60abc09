"""What happens in one server, and the series that each event moves."""

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Final, assert_never, final

from prometheus_client import CollectorRegistry, ProcessCollector

from mad.baseline.bundle import Manifest
from mad.metrics.alerts import AlertMetrics
from mad.metrics.build import build_labels
from mad.metrics.calibration import SERIES as CALIBRATION, CalibrationMetrics
from mad.metrics.calls import CallMetrics
from mad.metrics.counter import Counter, counter
from mad.metrics.family import nothing_waits
from mad.metrics.fits import FitMetrics
from mad.metrics.gauge import Gauge, gauge
from mad.metrics.histogram import Child, Histogram, histogram
from mad.metrics.promotion import PromotionMetrics
from mad.metrics.scores import SERIES as SCORES, ScoreMetrics
from mad.metrics.table import (
    AUTH_REASONS,
    INVALID_REASONS,
    PROBE_REASONS,
    RELOADED,
    SHED_REASONS,
    TABLE,
    UNSCORED,
    Scored,
    Series,
    Unscored,
)
from mad.streams.monitor import Channel, Reading
from mad.types import Alert, Verdict

MAX_BASELINES: Final = 16
"""Baselines that get series of their own; further ones share the label ``other``."""


@final
class Metrics:
    """The series of one server, in a registry of its own.

    ``false_alarm_rates`` are those of the baselines that will be loaded; each becomes an edge of
    the p-value histogram. Safe to call from any thread. A value that is not finite is counted as
    scored and left out of the histograms, whose sums it would spoil. Events of fits have methods of
    ``fits``, those of the alert log of ``alerts``, of what becomes active of ``promotion``, and
    ``calibration`` asks for what is known of the promised rate.
    """

    def __init__(
        self, registry: CollectorRegistry, *, model: str, false_alarm_rates: Iterable[float]
    ) -> None:
        ProcessCollector(registry=registry)
        self._model = model
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for series in TABLE:
            self._register(_with_edges(series, false_alarm_rates), registry)
        self.promotion = PromotionMetrics(self._counters, model=model)
        self.calls = CallMetrics(self._counters, self._histograms)
        self.fits = FitMetrics(self._counters, self._histograms, model=model)
        self.alerts = AlertMetrics(self._counters, self._gauges, self._histograms, model=model)
        self._baselines: set[str] = set()
        self._revisions: dict[str, tuple[str, ...]] = {}
        self._stages: dict[str, Child] = {}
        self._naming = threading.Lock()
        self._scores = ScoreMetrics(
            self._counters, self._histograms, model=model, label_of=self._baseline
        )
        self.calibration = CalibrationMetrics(
            self._counters, self._gauges, model=model, label_of=self._baseline
        )
        self._batch_size = self._histograms["mad_batch_size"].labels(model)
        self._queued = self._in_flight = 0
        self._gauges["mad_queue_depth"].labels(model).set_function(lambda: self._queued)
        self._gauges["mad_requests_in_flight"].labels(model).set_function(lambda: self._in_flight)
        self._start_at_zero()

    def baseline_loaded(self, manifest: Manifest, *, digest: str) -> None:
        """A baseline now scores under its name, in place of any revision before it."""
        baseline = self._baseline(manifest.name)
        labels = (self._model, baseline)
        self._gauges["mad_baseline_alpha_ratio"].labels(*labels).set(manifest.false_alarm_rate)
        self._gauges["mad_baseline_fit_timestamp_seconds"].labels(*labels).set(
            manifest.created.timestamp()
        )
        self._gauges["mad_baseline_fit_samples"].labels(*labels).set(manifest.fit_inputs)
        self._gauges["mad_baseline_weighing_samples"].labels(*labels).set(manifest.weighing_inputs)
        self._gauges["mad_baseline_reference_samples"].labels(*labels).set(
            manifest.reference_inputs
        )
        self._counters["mad_alerts_total"].labels(*labels)
        self.calibration.loaded(manifest.name)
        self._scores.loaded(manifest.name)
        revision = (*labels, manifest.revision, digest[:8], manifest.alert_on)
        before = self._revisions.setdefault(baseline, revision)
        if before != revision:
            self._gauges["mad_baseline_info"].remove(*before)
            self._revisions[baseline] = revision
        self._gauges["mad_baseline_info"].labels(*revision).set(1)

    def batch_ran(self, size: int, stage_seconds: Mapping[str, float]) -> None:
        """The model ran once, on ``size`` inputs."""
        self._batch_size.observe(size)
        self.stages_ran(stage_seconds)

    def stages_ran(self, stage_seconds: Mapping[str, float]) -> None:
        """Take the time of each stage, of a run of the model or of what was run elsewhere."""
        for stage, seconds in stage_seconds.items():
            child = self._stages.get(stage)
            if child is None:
                stages = self._histograms["mad_stage_duration_seconds"]
                child = self._stages[stage] = stages.labels(self._model, stage)
            child.observe(seconds)

    def scored(self, baseline: str, traffic: Scored, verdicts: Sequence[Verdict]) -> None:
        """Inputs of one kind of traffic were scored by a baseline, given by name."""
        self._scores.scored(baseline, traffic, verdicts)

    def alert_raised(self, baseline: str, count: int = 1) -> None:
        """Alerts of a baseline, given by name, were raised."""
        labels = (self._model, self._baseline(baseline))
        self._counters["mad_alerts_total"].labels(*labels).inc(count)

    def exemplified_by(self, alert: Alert) -> None:
        """An alert that was raised stands for its input in the buckets that counted it."""
        labels = (self._model, self._baseline(alert.baseline), "live")
        for name, value in (
            ("mad_surprise_shannons", alert.verdict.surprise_bits),
            ("mad_p_value", alert.verdict.p_value),
        ):
            if math.isfinite(value):
                self._histograms[name].labels(*labels).exemplify(
                    value, {"alert_id": alert.alert_id}, timestamp=alert.time.timestamp()
                )

    def stream_read(
        self, baseline: str, readings: Iterable[Reading], *, inputs: int, began: datetime
    ) -> None:
        """The stream of a baseline, given by name, has come so far."""
        labels = (self._model, self._baseline(baseline))
        self._gauges["mad_stream_inputs"].labels(*labels).set(inputs)
        self._gauges["mad_stream_begin_timestamp_seconds"].labels(*labels).set(began.timestamp())
        for reading in readings:
            channel = (*labels, reading.channel)
            alarmed = reading.alarm.time.timestamp() if reading.alarm else 0
            self._gauges["mad_stream_evidence_shannons"].labels(*channel).set(reading.evidence_bits)
            self._gauges["mad_stream_threshold_shannons"].labels(*channel).set(
                reading.threshold_bits
            )
            self._gauges["mad_stream_alarm_timestamp_seconds"].labels(*channel).set(alarmed)
            self._counters["mad_stream_alarms_total"].labels(*channel)

    def stream_alarmed(self, baseline: str, channel: Channel) -> None:
        """A channel raised an alarm over the stream of a baseline, given by name."""
        labels = (self._model, self._baseline(baseline), channel)
        self._counters["mad_stream_alarms_total"].labels(*labels).inc()

    def stream_left_out(self, inputs: int) -> None:
        """Inputs were scored that the stream will never count in."""
        self._counters["mad_stream_left_out_inputs_total"].labels(self._model).inc(inputs)

    def stream_checkpoint_failed(self) -> None:
        """The stream could not be written to disk."""
        self._counters["mad_stream_checkpoint_errors_total"].labels(self._model).inc()

    def shed(self, reason: str) -> None:
        """A request was refused for want of room; ``reason`` is a fixed word, not a message."""
        self._counters["mad_requests_shed_total"].labels(self._model, reason).inc()

    def unscored(self, inputs: int, reason: Unscored) -> None:
        """Inputs of an answer, or of a mirrored request, got no score."""
        self._counters["mad_unscored_inputs_total"].labels(self._model, reason).inc(inputs)

    def invalid_input(self, reason: str) -> None:
        """A request could not be scored as it stood; ``reason`` is a fixed word, not a message."""
        self._counters["mad_invalid_inputs_total"].labels(self._model, reason).inc()

    def auth_failed(self, reason: str) -> None:
        """A call was refused because of who made it; ``reason`` is a fixed word."""
        self._counters["mad_auth_failures_total"].labels(self._model, reason).inc()

    def security_reloaded(self, what: str, outcome: str) -> None:
        """A file that says who may call has changed and was read, ``ok``, or not, ``failed``."""
        self._counters["mad_security_reloads_total"].labels(self._model, what, outcome).inc()

    def audit_failed(self) -> None:
        """The audit log could not be written."""
        self._counters["mad_audit_log_errors_total"].labels(self._model).inc()

    def probing_suspected(self, reason: str) -> None:
        """A caller's inputs are as an attacker's would be; ``reason`` is a fixed word."""
        self._counters["mad_probe_suspicions_total"].labels(self._model, reason).inc()

    def queue_depth(self, inputs: int) -> None:
        """So many inputs wait now."""
        self._queued = inputs

    def request_started(self) -> None:
        """A request for scores came in."""
        self._in_flight += 1

    def request_ended(self) -> None:
        """A request for scores was answered, or given up."""
        self._in_flight -= 1

    def _register(self, series: Series, registry: CollectorRegistry) -> None:
        name = series.name
        before = self._count_in if name in SCORES else nothing_waits
        before = self._refresh if name in CALIBRATION else before
        match series.kind:
            case "counter":
                self._counters[name] = counter(series, registry, before_read=before)
            case "gauge":
                self._gauges[name] = gauge(series, registry, before_read=before)
            case "histogram":
                self._histograms[name] = histogram(series, registry, before_read=before)
            case _:
                assert_never(series.kind)

    def _count_in(self) -> None:
        self._scores.count_in()

    def _refresh(self) -> None:
        self.calibration.refresh()

    def _start_at_zero(self) -> None:
        for name in (
            "mad_audit_log_errors_total",
            "mad_metrics_label_overflow_total",
            "mad_stream_left_out_inputs_total",
            "mad_stream_checkpoint_errors_total",
        ):
            self._counters[name].labels(self._model)
        for reason in SHED_REASONS:
            self._counters["mad_requests_shed_total"].labels(self._model, reason)
        for unscored in UNSCORED:
            self._counters["mad_unscored_inputs_total"].labels(self._model, unscored)
        for reason in INVALID_REASONS:
            self._counters["mad_invalid_inputs_total"].labels(self._model, reason)
        for reason in AUTH_REASONS:
            self._counters["mad_auth_failures_total"].labels(self._model, reason)
        for reload in product(RELOADED, ("ok", "failed")):
            self._counters["mad_security_reloads_total"].labels(self._model, *reload)
        for reason in PROBE_REASONS:
            self._counters["mad_probe_suspicions_total"].labels(self._model, reason)
        self._gauges["mad_build_info"].labels(*build_labels()).set(1)

    def _baseline(self, name: str) -> str:
        """Return the label of a baseline; callers cannot make more labels than the cap."""
        with self._naming:
            if len(self._baselines) < MAX_BASELINES:
                self._baselines.add(name)
            if name in self._baselines:
                return name
        self._counters["mad_metrics_label_overflow_total"].labels(self._model).inc()
        return "other"


def _with_edges(series: Series, false_alarm_rates: Iterable[float]) -> Series:
    if series.name != "mad_p_value":
        return series
    return replace(series, edges=tuple(sorted({*series.edges, *false_alarm_rates})))
