"""The first page a person reads."""

from dataclasses import replace

import pytest

from mad.metrics.calibration import CalibrationReading, RateReading
from mad.streams.monitor import Alarm, Reading
from tests.markup import Markup
from tests.web.conftest import ALERT, INCIDENT, MANIFEST, NOW, Site, verdict


def test_a_page_with_nothing_to_show_says_what_comes_next(site: Site) -> None:
    text = Markup(site.page()).text
    assert "No input has been scored since the start" in text
    assert "No alert has been raised yet" in text
    assert "No incident is open" in text
    assert "No baseline is loaded" in text


def test_the_observed_alarm_rate_stands_beside_the_promised_one(site: Site) -> None:
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    site.metrics.scored("default", "trusted", [verdict(0.01)] * 2 + [verdict(0.5)] * 98)
    text = Markup(site.page()).text
    assert "2 % 2 of 100 inputs alarm" in text
    # Exact binomial interval of 2 of 100 at 99 %, from Clopper and Pearson's formula.
    assert "0.104 % to 8.94 %" in text
    assert "as promised" in text


def test_trusted_traffic_that_alarms_too_often_is_marked(site: Site) -> None:
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    site.metrics.scored("default", "trusted", [verdict(0.001)] * 50 + [verdict(0.5)] * 450)
    assert '<span class="pill bad">more than promised</span>' in site.page()


def test_a_surprise_that_is_not_finite_leaves_the_page_whole(site: Site) -> None:
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    site.metrics.scored("default", "live", [verdict(0.0004, bits=float("nan"))])
    assert "1 of 1 inputs alarm" in Markup(site.page()).text


def test_every_latest_alert_has_a_place_by_mechanism_and_novelty(site: Site) -> None:
    site.alerts += [replace(ALERT, alert_id=f"alert-{i}") for i in range(3)]
    page = Markup(site.page())
    assert page.tags.count("circle") == 3
    assert "camera-12 · input 4: mechanism 12.6, novelty 0.4" in page.text
    assert ("href", "/alerts/alert-2") in page.attributes


def test_the_share_above_each_rarity_is_drawn_of_all_three(site: Site) -> None:
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    site.metrics.scored("default", "live", [verdict(0.5)] * 10)
    page = Markup(site.page())
    assert page.tags.count("polyline") == 3
    for measure in ("surprise", "mechanism", "novelty"):
        assert ("class", f"line {measure}") in page.attributes


def test_only_the_latest_twenty_alerts_are_shown(site: Site) -> None:
    site.alerts += [replace(ALERT, alert_id=f"alert-{i}") for i in range(25)]
    assert site.page().count('class="surprise"') == 20


def test_an_open_incident_names_what_its_alerts_share(site: Site) -> None:
    site.incidents.append(INCIDENT)
    page = Markup(site.page())
    assert (
        "2026-03-01 12:29:58 UTC 1,200 11.3 default act1 component 41 , act1 residual 3"
        in page.text
    )
    assert ("href", "/alerts?incident=incident-1") in page.attributes
    assert ("href", "/alerts/alert-1") in page.attributes


def test_a_page_that_runs_no_script_reloads_itself_until_it_is_paused(site: Site) -> None:
    reloading = '<noscript><meta http-equiv="refresh" content="5"></noscript>'
    assert reloading in site.page()
    assert "http-equiv" not in site.page("/?pause")


def test_an_unreadable_alert_log_is_said_and_hides_nothing_else(site: Site) -> None:
    site.alerts_problem = "alert log sqlite:///alerts.db cannot be read: disk I/O error"
    site.baselines.append(MANIFEST)
    text = Markup(site.page()).text
    assert f"The alerts cannot be shown. {site.alerts_problem}" in text
    assert "default@3" in text


def test_a_baseline_shows_where_it_came_from(site: Site) -> None:
    site.baselines.append(MANIFEST)
    text = Markup(site.page()).text
    for fact in ("3,600 inputs", "900 inputs", "1,500 inputs", "9f1c9f1c9f1c", "torch 2.13.0"):
        assert fact in text
    assert "Alert above 6.7 bits of surprise" in text
    assert "Active by magnitude" in text
    assert "Median surprise 1.0 bits" in text


def test_a_baseline_that_ranks_by_context_has_no_single_threshold(site: Site) -> None:
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    site.metrics.scored("default", "live", [verdict(0.5)] * 10)
    site.baselines.append(MANIFEST)
    assert "alert above 6.7" in Markup(site.page()).text
    site.baselines[0] = replace(MANIFEST, by_context=True)
    text = Markup(site.page()).text
    assert "alert above" not in text
    assert "Alert above another surprise for each context" in text


def test_readiness_is_shown(site: Site) -> None:
    assert '<span class="pill good">ready</span>' in site.page()
    site.is_ready = False
    assert '<span class="pill bad">not ready</span>' in site.page()


def test_a_standing_stream_alarm_is_marked_with_its_time(site: Site) -> None:
    assert "Live traffic, taken together" not in Markup(site.page()).text
    readings = (
        Reading("fast", 20.5, 16.6, Alarm(5, NOW)),
        Reading("never_false", -3.25, 7.6, None),
    )
    site.metrics.stream_read("default", readings, inputs=1234, began=NOW)
    page = site.page()
    assert '<span class="pill bad">alarm since 2026-03-01 12:30' in page
    assert '<span class="pill good">no alarm</span>' in page
    assert "never false" in Markup(page).text


def test_what_the_promise_came_to_of_late_is_shown_by_kind_of_traffic(site: Site) -> None:
    assert "The promise, of late" not in Markup(site.page()).text
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    reading = CalibrationReading(
        baseline="default",
        gap=0.0312,
        window=7500,
        wealth_log10=-1.25,
        rates=[
            RateReading("trusted", 0.01, 0.012, 0.009, 0.0158),
            RateReading("trusted", 0.001, 0.5, 0.4, 0.6),
            RateReading("canary", 0.01, 0.9375, 0.852, 0.981),
        ],
        drift_bits={("trusted", "act1"): 0.24, ("trusted", "act2"): 1.75},
        unseen=0,
    )
    site.metrics.calibration.read_from(lambda: [reading])
    text = Markup(site.page()).text
    assert "trusted default kept 1 % 1.2 % 0.9 % to 1.58 % 0.031 over 7,500 -1.2 1.8 act2" in text
    assert "canary default planted anomalies 1 % 93.8 % 85.2 % to 98.1 %" in text
    assert "50 %" not in text.partition("The promise, of late")[2].partition("Latest alerts")[0]


@pytest.mark.parametrize(
    ("wealth", "pill"),
    [(2.0, "good"), (2.1, "warn"), (4.0, "warn"), (4.1, "bad"), (300.0, "bad")],
)
def test_evidence_against_the_promise_is_marked_where_the_alerts_begin(
    site: Site, wealth: float, pill: str
) -> None:
    words = {"good": "kept", "warn": "doubtful", "bad": "lost"}
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    reading = CalibrationReading(
        baseline="default",
        gap=0.01,
        window=100,
        wealth_log10=wealth,
        rates=[RateReading("trusted", 0.01, 0.01, 0.0, 0.05)],
        drift_bits={},
        unseen=0,
    )
    site.metrics.calibration.read_from(lambda: [reading])
    assert f'<span class="pill {pill}">{words[pill]}</span>' in site.page()
