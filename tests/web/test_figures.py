"""The numbers on the page are the registry's."""

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from mad.metrics import Metrics
from mad.streams.monitor import Alarm, Reading
from mad.web import figures
from tests.web.conftest import MANIFEST, verdict


def test_alarms_are_the_p_values_at_or_below_the_rate() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="demo", false_alarm_rates=(0.01,))
    metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    metrics.scored("default", "live", [verdict(p) for p in (0.0001, 0.01, 0.0101, 1.0)])
    (live,) = figures.read(registry).calibrations
    assert (live.traffic, live.alarms, live.inputs) == ("live", 2, 4)


def test_the_standing_compares_intervals() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="demo", false_alarm_rates=(0.01,))
    metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    metrics.scored("default", "live", [verdict(0.5)] * 5000)
    metrics.scored("default", "trusted", [verdict(0.5)] * 495 + [verdict(0.001)] * 5)
    metrics.scored("default", "canary", [verdict(0.001)] * 10)
    standings = {each.traffic: each.standing for each in figures.read(registry).calibrations}
    assert standings == {"live": "fewer", "trusted": "as promised", "canary": "more"}


def test_totals_add_up_over_baselines_and_traffic() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="demo", false_alarm_rates=(0.01,))
    metrics.scored("default", "live", [verdict(0.5)] * 3)
    metrics.scored("strict", "trusted", [verdict(0.5)] * 4)
    metrics.alert_raised("default", 2)
    metrics.shed("queue_full")
    totals = figures.read(registry)
    assert (totals.scored, totals.alerts, totals.shed, totals.log_errors) == (7, 2, 1, 0)


def test_the_evidence_is_what_the_stream_was_read_to_be() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="demo", false_alarm_rates=(0.01,))
    assert figures.read(registry).evidence == ()
    noon, later = (datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (12, 13))
    readings = (
        Reading("fast", 20.5, 16.6, Alarm(5, later)),
        Reading("never_false", -3.25, 7.6, None),
    )
    metrics.stream_read("default", readings, inputs=7, began=noon)
    fast, never_false = figures.read(registry).evidence
    assert fast == figures.Evidence("default", "fast", 7, noon, 20.5, 16.6, later)
    assert never_false == figures.Evidence("default", "never false", 7, noon, -3.25, 7.6, None)
