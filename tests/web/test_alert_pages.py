"""The pages of alerts: the list of them, and one with its whole ledger."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mad.alerts.values import Acknowledgement
from mad.types import Alert, Charge, Explanation, Part, Term
from tests.markup import Markup
from tests.web.conftest import ALERT, MANIFEST, Site


def shown(site: Site, alert: Alert = ALERT) -> Markup:
    site.alerts.append(alert)
    return Markup(site.page(f"/alerts/{alert.alert_id}"))


def test_an_alert_shows_its_whole_ledger(site: Site) -> None:
    text = shown(site).text
    assert "Alert of 11.3 bits camera-12 · input 4 · 2026-03-01 12:29:58 UTC" in text
    assert "Mechanism 12.6 bits Novelty 0.4 bits P-value 0.0004 Baseline default@3" in text
    # The combination costs what its components do not: 480.5 - 390.25.
    assert "act1 set rare components 390.2, rare combination 90.2 12.1 480.5" in text
    assert "residual 0.7 32.0" in text
    assert "the whole activity 11.3 512.5" in text
    assert "act1 component 41 90.5 0.4 2.5 0.03 %" in text
    assert "act1 component 7 12.0 0.1 silent 98 %" in text
    assert "act1 residual 3 5.0 1.0 -0.5" in text
    assert "everything else 405.0" in text
    assert "act1 components used 1234 0.40 7 9 11 3 41" in text


def test_an_alert_of_a_model_that_broke_down_says_so(site: Site) -> None:
    infinite, undefined = float("inf"), float("nan")
    parts = (
        Part("act1", "set", 480.5, 12.1, 390.25),
        Part("act1", "residual", infinite, infinite),
    )
    charge = Charge("act1", "residual", 3, infinite, 6.5, undefined, None)
    broken = replace(
        ALERT.verdict,
        surprise_bits=infinite,
        novelty_bits=infinite,
        description_bits=infinite,
        parts=parts,
    )
    explanation = Explanation((charge,), infinite)
    page = shown(site, replace(ALERT, verdict=broken, explanation=explanation))
    assert "Alert of ∞ bits" in page.text
    assert "Mechanism 12.6 bits Novelty ∞ bits P-value 0.0004" in page.text
    assert "The model broke down on this input" in page.text
    assert "act1 residual 3 ∞ 6.5 not finite" in page.text
    meters = [width for name, width in page.attributes if name == "width"]
    # Track and bar of set, residual and charge, and the mark of what the charge usually is.
    assert meters == ["100", "0.00"] + ["100"] * 4 + ["0.8"]
    assert not {"nan", "inf"} & {value for _, value in page.attributes}


def test_an_alert_from_before_rarity_was_measured_says_so_and_has_no_place(site: Site) -> None:
    unmeasured = float("nan")
    old = replace(
        ALERT.verdict,
        surprise_bits=unmeasured,
        mechanism_bits=unmeasured,
        novelty_bits=unmeasured,
        parts=(Part("act1", "set", 512.5, unmeasured),),
    )
    page = shown(site, replace(ALERT, verdict=old))
    assert "Mechanism n/a bits Novelty n/a bits" in page.text
    assert "set n/a 512.5" in page.text
    overview = Markup(site.page())
    assert "circle" not in overview.tags
    for one in (page, overview):
        assert not {"nan", "inf"} & {value for _, value in one.attributes}


@pytest.mark.parametrize(
    ("term", "words"),
    [("output", "output despite component 41"), ("magnitudes", "strength of component 41")],
)
def test_charges_of_every_term_have_words(site: Site, term: Term, words: str) -> None:
    charge = Charge("act1", term, 41, 9.0, 1.0, 2.5, 0.25)
    page = shown(site, replace(ALERT, explanation=Explanation((charge,), 503.5)))
    assert f"act1 {words} 9.0 1.0 2.5 25 %" in page.text


def test_the_nearest_trusted_input_by_direction_is_listed_too(site: Site) -> None:
    charge = Charge("act1", "neighbours", 77, 9.0, 1.0, 0.75, None)
    page = shown(site, replace(ALERT, explanation=Explanation((charge,), 503.5)))
    assert "act1 direction of the activation 77 0.25" in page.text


def test_an_alert_with_nothing_kept_is_shown(site: Site) -> None:
    bare = replace(ALERT.verdict, parts=())
    page = shown(site, replace(ALERT, verdict=bare, explanation=Explanation((), 512.5)))
    assert "No parts were kept" in page.text
    assert "everything else 512.5" in page.text
    assert "keeps no trusted inputs to compare with" in page.text


def test_what_people_said_of_an_alert_is_shown(site: Site) -> None:
    assert "Nobody has spoken of it yet" in shown(site).text
    time = datetime(2026, 3, 1, 12, 45, tzinfo=UTC)
    site.said["alert-1"] = Acknowledgement("false_positive", "a <b>moth</b>", "ada", time)
    text = Markup(site.page("/alerts/alert-1")).text
    assert "false positive ada, 2026-03-01 12:45:00 UTC a <b>moth</b>" in text
    assert "false positive" in Markup(site.page("/alerts")).text


def test_an_alert_that_is_not_there_is_404_and_says_so(site: Site) -> None:
    text = Markup(site.page("/alerts/nothing", status=404)).text
    assert "Not Found there is no alert 'nothing'" in text


def test_a_list_comes_in_pages(site: Site) -> None:
    site.alerts += [replace(ALERT, alert_id=f"alert-{i}") for i in range(51)]
    first = Markup(site.page("/alerts?baseline=default"))
    assert ("href", "/alerts/alert-49") in first.attributes
    assert ("href", "/alerts?baseline=default&page=50") in first.attributes
    last = Markup(site.page("/alerts?baseline=default&page=50"))
    assert [value for _, value in last.attributes if value and value.startswith("/alerts/")] == [
        "/alerts/alert-50"
    ]
    assert ("href", "/alerts?baseline=default") in last.attributes


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=maybe", "state is 'maybe'"),
        ("least_bits=nan", "least_bits is 'nan'"),
        ("least_bits=many", "write bits as a number"),
    ],
)
def test_a_filter_that_cannot_be_is_400_and_says_what_to_write(
    site: Site, query: str, said: str
) -> None:
    assert said in Markup(site.page(f"/alerts?{query}", status=400)).text


def test_a_list_of_nothing_says_so(site: Site) -> None:
    assert "No alert has been raised yet" in Markup(site.page("/alerts")).text
    site.alerts.append(ALERT)
    assert "No alert is like that" in Markup(site.page("/alerts?baseline=other")).text


def test_a_log_that_cannot_be_read_is_503_and_says_so(site: Site) -> None:
    site.baselines.append(MANIFEST)
    site.alerts_problem = "alert log sqlite:///alerts.db cannot be read: disk I/O error"
    for path in ("/alerts", "/alerts/alert-1"):
        assert site.alerts_problem in Markup(site.page(path, status=503)).text
