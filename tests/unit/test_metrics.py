"""The metrics: what Prometheus reads is what happened."""

import math
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from mad.baseline.bundle import InputSpec, Manifest
from mad.metrics import MAX_BASELINES, TABLE, TRAFFIC, Metrics, Rpc
from mad.metrics.calibration import CalibrationReading, RateReading
from mad.metrics.exposition import exposition
from mad.streams.monitor import Alarm, Reading
from mad.types import MEASURES, Part, Verdict

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
READINGS = (
    Reading("fast", 20.5, 16.6, Alarm(5, NOON + timedelta(seconds=9))),
    Reading("never_false", -3.25, 7.6, None),
)
SCORE = Rpc("unary", "mad.v1.ScoringService", "Score")


def manifest(name: str = "default", version: int = 1, rate: float = 0.01) -> Manifest:
    return Manifest(
        name=name,
        version=version,
        created=datetime(2026, 3, 1, tzinfo=UTC),
        model_name="demo",
        model_fingerprint="m" * 64,
        decomposition_fingerprint="d" * 64,
        sites=("act1",),
        inputs=(InputSpec("image", "uint8", (28, 28)),),
        context="predicted",
        activity="magnitude",
        fit_inputs=3600,
        weighing_inputs=900,
        reference_inputs=1500,
        false_alarm_rate=rate,
        alert_on="surprise",
        by_context=False,
        median_bits=1.0,
        threshold_bits=6.5,
        seed=0,
        library_versions={"torch": "2.13.0"},
    )


def verdict(
    p_value: float, *, surprise: float = 1.5, mechanism: float = 1.0, novelty: float = 2.0
) -> Verdict:
    parts = (
        Part("act1", "set", 60.0, 1.0, 55.0),
        Part("act1", "residual", 30.0, 1.5),
        Part("x", "residual", 10.0, 0.5),
    )
    return Verdict(surprise, mechanism, novelty, 100.0, p_value, p_value <= 0.01, parts, -1, 16)


def reading(*, wealth_log10: float = 2.5, unseen: int = 3) -> CalibrationReading:
    """Return what is known of trusted traffic of which 2 in 100 were at or under 1 %."""
    return CalibrationReading(
        baseline="default",
        gap=0.125,
        window=100,
        wealth_log10=wealth_log10,
        rates=[RateReading("trusted", 0.01, 0.02, 0.001, 0.09)],
        drift_bits={("live", "act1"): 0.75},
        unseen=unseen,
    )


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {"model": "demo", **labels})


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, model="demo", false_alarm_rates=(0.01, 0.003))


@pytest.fixture
def busy(metrics: Metrics) -> Metrics:
    """Metrics after at least one event of every kind."""
    metrics.baseline_loaded(manifest(), digest="c0ffee00aa")
    metrics.batch_ran(3, {"forward": 0.004, "codes": 0.001})
    for traffic in TRAFFIC:
        metrics.scored("default", traffic, [verdict(0.003), verdict(0.5)])
    metrics.alert_raised("default", 2)
    metrics.alerts.appended(0.006, open_incidents=2)
    metrics.alerts.failed()
    metrics.stream_read("default", READINGS, inputs=7, began=NOON)
    metrics.stream_alarmed("default", "fast")
    metrics.stream_left_out(3)
    metrics.stream_checkpoint_failed()
    once = [reading()]
    metrics.calibration.read_from(lambda: [once.pop()] if once else [])
    metrics.shed("queue_full")
    metrics.invalid_input("input")
    metrics.queue_depth(5)
    metrics.request_started()
    metrics.calls.of(SCORE).started.inc()
    metrics.calls.of(SCORE).ended("OK", 0.01)
    return metrics


@pytest.mark.usefixtures("busy")
def test_every_row_of_the_table_is_exported(registry: CollectorRegistry) -> None:
    names = {sample.name for family in registry.collect() for sample in family.samples}
    for series in TABLE:
        assert (f"{series.name}_count" if series.kind == "histogram" else series.name) in names


@pytest.mark.usefixtures("busy")
def test_nothing_is_exported_that_the_table_does_not_say(registry: CollectorRegistry) -> None:
    told = {(series.name.removesuffix("_total"), series.kind, series.help) for series in TABLE}
    found = {
        (family.name, family.type, family.documentation)
        for family in registry.collect()
        if not family.name.startswith("process_")
    }
    assert found == told
    assert all(series.help.endswith(".") for series in TABLE)


@pytest.mark.usefixtures("busy")
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_about(registry: CollectorRegistry) -> None:
    found = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 - wherever the machine has it
        input=exposition(registry, "")[0],
        capture_output=True,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_the_bucket_at_a_false_alarm_rate_counts_the_observed_alarms(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.scored("default", "trusted", [verdict(p) for p in (0.003, 0.0030001, 0.01, 0.2)])
    labels = {"baseline": "default", "traffic": "trusted"}
    assert sample(registry, "mad_p_value_bucket", le="0.003", **labels) == 1
    assert sample(registry, "mad_p_value_bucket", le="0.01", **labels) == 3
    assert sample(registry, "mad_p_value_count", **labels) == 4


def test_the_residual_is_what_its_parts_cost_together(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.scored("default", "live", [verdict(0.5)])
    assert sample(registry, "mad_residual_shannons_sum", baseline="default") == 40


def test_mechanism_novelty_and_description_are_counted_beside_the_surprise(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    shifted = verdict(0.003, surprise=7.5, mechanism=0.25, novelty=8.5)
    metrics.scored("default", "live", [shifted, verdict(0.5)])
    labels = {"baseline": "default", "traffic": "live"}
    sums = [sample(registry, f"mad_{measure}_shannons_sum", **labels) for measure in MEASURES]
    assert sums == [7.5 + 1.5, 0.25 + 1.0, 8.5 + 2.0]
    assert sample(registry, "mad_novelty_shannons_bucket", le="7.0", **labels) == 1
    assert sample(registry, "mad_mechanism_shannons_bucket", le="7.0", **labels) == 2
    assert sample(registry, "mad_description_shannons_sum", baseline="default") == 200


@pytest.mark.parametrize("rate", [0.05, 0.02, 0.01, 0.005, 0.002, 0.001])
def test_rarity_has_an_edge_near_the_threshold_of_every_usual_rate(rate: float) -> None:
    for series in TABLE:
        if series.name in {f"mad_{measure}_shannons" for measure in MEASURES}:
            nearest = min(abs(edge + math.log2(rate)) for edge in series.edges)
            assert nearest <= 0.25


def test_kinds_of_traffic_are_counted_apart(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.scored("default", "live", [verdict(0.5)] * 3)
    metrics.scored("default", "canary", [verdict(0.5)])
    counts = [
        sample(registry, "mad_inputs_scored_total", baseline="default", traffic=traffic)
        for traffic in ("live", "canary")
    ]
    assert counts == [3, 1]


@pytest.mark.parametrize("bits", [math.nan, math.inf])
def test_a_value_that_is_not_finite_spoils_no_sum(
    metrics: Metrics, registry: CollectorRegistry, bits: float
) -> None:
    broken = verdict(0.001, surprise=bits, mechanism=bits, novelty=bits)
    metrics.scored("default", "live", [verdict(0.5), replace(broken, description_bits=bits)])
    labels = {"baseline": "default", "traffic": "live"}
    assert sample(registry, "mad_surprise_shannons_sum", **labels) == 1.5
    assert sample(registry, "mad_mechanism_shannons_sum", **labels) == 1.0
    assert sample(registry, "mad_novelty_shannons_sum", **labels) == 2.0
    assert sample(registry, "mad_description_shannons_sum", baseline="default") == 100
    assert sample(registry, "mad_inputs_scored_total", **labels) == 2
    assert sample(registry, "mad_p_value_count", **labels) == 2


def test_a_new_revision_replaces_the_one_before(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.baseline_loaded(manifest(version=1, rate=0.01), digest="aaaaaaaa11")
    metrics.baseline_loaded(manifest(version=2, rate=0.003), digest="bbbbbbbb22")
    info = next(family for family in registry.collect() if family.name == "mad_baseline_info")
    (found,) = info.samples
    assert (found.labels["revision"], found.labels["alert_on"]) == ("default@2", "surprise")
    assert sample(registry, "mad_baseline_weighing_samples", baseline="default") == 900
    assert sample(registry, "mad_baseline_alpha_ratio", baseline="default") == 0.003


def test_alerts_start_at_zero_so_that_a_rate_sees_the_first(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.baseline_loaded(manifest(), digest="aaaaaaaa11")
    assert sample(registry, "mad_alerts_total", baseline="default") == 0


def test_a_new_method_starts_its_errors_at_zero(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.calls.of(SCORE)
    labels = {"grpc_type": "unary", "grpc_service": SCORE.service, "grpc_method": "Score"}
    assert (
        registry.get_sample_value(
            "grpc_server_handled_total", {**labels, "grpc_code": "INVALID_ARGUMENT"}
        )
        == 0
    )


def test_baselines_beyond_the_cap_share_a_label_and_that_is_counted(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    assert sample(registry, "mad_metrics_label_overflow_total") == 0
    for number in range(MAX_BASELINES + 3):
        metrics.scored(f"b{number}", "live", [verdict(0.5)])
    assert sample(registry, "mad_inputs_scored_total", baseline="b15", traffic="live") == 1
    assert sample(registry, "mad_inputs_scored_total", baseline="other", traffic="live") == 3
    assert sample(registry, "mad_metrics_label_overflow_total") == 3


def test_requests_in_flight_come_back_to_zero(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.request_started()
    metrics.request_started()
    metrics.request_ended()
    assert sample(registry, "mad_requests_in_flight") == 1
    metrics.request_ended()
    assert sample(registry, "mad_requests_in_flight") == 0


@pytest.mark.usefixtures("busy")
def test_two_servers_share_no_series(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    Metrics(other, model="demo", false_alarm_rates=(0.01,))
    assert sample(registry, "mad_queue_depth") == 5
    assert sample(other, "mad_queue_depth") == 0


@pytest.mark.usefixtures("busy")
def test_no_series_says_when_it_was_created(registry: CollectorRegistry) -> None:
    assert b"_created" not in exposition(registry, "")[0]


@pytest.mark.usefixtures("busy")
def test_a_standing_alarm_has_the_time_it_was_raised_and_none_has_zero(
    registry: CollectorRegistry,
) -> None:
    fast = {"baseline": "default", "channel": "fast"}
    other = {"baseline": "default", "channel": "never_false"}
    noon = NOON.timestamp()
    assert sample(registry, "mad_stream_alarm_timestamp_seconds", **fast) == noon + 9
    assert sample(registry, "mad_stream_alarm_timestamp_seconds", **other) == 0
    assert sample(registry, "mad_stream_alarms_total", **fast) == 1
    assert sample(registry, "mad_stream_alarms_total", **other) == 0
    assert sample(registry, "mad_stream_evidence_shannons", **other) == -3.25
    assert sample(registry, "mad_stream_threshold_shannons", **fast) == 16.6
    assert sample(registry, "mad_stream_begin_timestamp_seconds", baseline="default") == noon


@pytest.mark.parametrize(("log10", "shown"), [(2.5, 2.5), (1e4, 300), (-1e4, -300)])
def test_wealth_is_shown_as_far_as_a_double_goes(
    metrics: Metrics, registry: CollectorRegistry, log10: float, shown: float
) -> None:
    metrics.calibration.read_from(lambda: [reading(wealth_log10=log10)])
    assert sample(registry, "mad_calibration_wealth_log10", baseline="default") == shown


def test_calibration_is_asked_for_whenever_it_is_read_and_uses_add_up(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    waiting = [reading()]

    def newly_known() -> list[CalibrationReading]:
        return [waiting.pop()] if waiting else []

    metrics.calibration.read_from(newly_known)
    rate = {"baseline": "default", "traffic": "trusted", "alpha": "0.01"}
    assert sample(registry, "mad_calibration_observed_ratio", **rate) == 0.02
    waiting.append(replace(reading(unseen=4), rates=[], drift_bits={("live", "act2"): 0.5}))
    assert sample(registry, "mad_components_unseen_total", baseline="default") == 7
    assert sample(registry, "mad_calibration_observed_ratio", **rate) is None
    site = {"baseline": "default", "traffic": "live"}
    assert sample(registry, "mad_component_drift_shannons", site="act1", **site) is None
    assert sample(registry, "mad_component_drift_shannons", site="act2", **site) == 0.5
