"""The numbers on the page: exact intervals, and counts that are the registry's."""

import pytest
from prometheus_client import CollectorRegistry
from scipy.stats import binomtest

from mad.metrics import Metrics
from mad.web import figures
from mad.web.figures import binomial_interval, promised_interval
from tests.web.conftest import MANIFEST, verdict


@pytest.mark.parametrize(("successes", "trials"), [(0, 100), (1, 100), (37, 4000), (100, 100)])
def test_the_binomial_interval_is_the_exact_one(successes: int, trials: int) -> None:
    exact = binomtest(successes, trials).proportion_ci(0.99, method="exact")
    assert binomial_interval(successes, trials) == pytest.approx((exact.low, exact.high), rel=1e-9)


def test_no_trials_tell_nothing() -> None:
    assert binomial_interval(0, 0) == (0.0, 1.0)


def test_one_rank_of_a_reference_promises_what_the_smallest_of_uniforms_does() -> None:
    # P(smallest of 99 uniforms <= x) = 1 - (1 - x) ** 99.
    expected = (1 - 0.995 ** (1 / 99), 1 - 0.005 ** (1 / 99))
    assert promised_interval(0.01, 99) == pytest.approx(expected, rel=1e-9)


def test_a_reference_too_small_for_the_rate_never_alarms() -> None:
    assert promised_interval(0.01, 98) == (0.0, 0.0)


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
