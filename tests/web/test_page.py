"""The page a person reads."""

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mad.streams.monitor import Alarm, Reading
from mad.types import Charge, Explanation, Part, Term
from tests.web.conftest import ALERT, MANIFEST, NOW, Site, verdict

HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}&amp;"""


class Markup(HTMLParser):
    """Collects the tags and attributes of a page, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_a_page_with_nothing_to_show_says_what_comes_next(site: Site) -> None:
    text = Markup(site.page()).text
    assert "No input has been scored since the start" in text
    assert "No alert has been raised yet" in text
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


def test_an_alert_shows_its_whole_ledger(site: Site) -> None:
    site.alerts.append(ALERT)
    text = Markup(site.page()).text
    assert (
        "11.3 bits mechanism 12.6 novelty 0.4 p 0.0004 default@3 2026-03-01 12:29:58 UTC "
        "camera-12 · input 4" in text
    )
    # The combination costs what its components do not: 480.5 - 390.25.
    assert "act1 set rare components 390.2, rare combination 90.2 12.1 480.5" in text
    assert "act1 residual 0.7 32.0" in text
    assert "the whole activity 11.3 512.5" in text
    assert "act1 component 41 90.5 0.4 2.5 0.03 %" in text
    assert "act1 component 7 12.0 0.1 silent 98 %" in text
    assert "act1 residual 3 5.0 1.0 -0.5" in text
    assert "everything else 405.0" in text
    assert "act1 1234 0.40 7 9 11 3 41" in text


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
    site.alerts.append(replace(ALERT, verdict=broken, explanation=explanation))
    page = Markup(site.page())
    assert "∞ bits mechanism 12.6 novelty ∞ p 0.0004" in page.text
    assert "The model broke down on this input" in page.text
    assert "act1 residual 3 ∞ 6.5 not finite" in page.text
    meters = [width for name, width in page.attributes if name == "width"]
    assert meters[-6:] == ["100", "0.00"] + ["100"] * 4  # track and bar of set, residual, charge
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
    site.alerts.append(replace(ALERT, verdict=old))
    page = Markup(site.page())
    assert "n/a bits mechanism n/a novelty n/a p 0.0004" in page.text
    assert "act1 set n/a 512.5" in page.text
    assert "circle" not in page.tags
    assert not {"nan", "inf"} & {value for _, value in page.attributes}


def test_every_latest_alert_has_a_place_by_mechanism_and_novelty(site: Site) -> None:
    site.alerts += [replace(ALERT, alert_id=f"alert-{i}") for i in range(3)]
    page = Markup(site.page())
    assert page.tags.count("circle") == 3
    assert "camera-12 · input 4: mechanism 12.6, novelty 0.4" in page.text
    assert ("href", "/?pause&alert=alert-2#alert-2") in page.attributes


def test_the_share_above_each_rarity_is_drawn_of_all_three(site: Site) -> None:
    site.metrics.baseline_loaded(MANIFEST, digest="c0ffee")
    site.metrics.scored("default", "live", [verdict(0.5)] * 10)
    page = Markup(site.page())
    assert page.tags.count("polyline") == 3
    for measure in ("surprise", "mechanism", "novelty"):
        assert ("class", f"line {measure}") in page.attributes


@pytest.mark.parametrize(
    ("term", "shown"),
    [("output", "output despite component 41"), ("magnitudes", "strength of component 41")],
)
def test_charges_of_every_term_have_words(site: Site, term: Term, shown: str) -> None:
    charge = Charge("act1", term, 41, 9.0, 1.0, 2.5, 0.25)
    site.alerts.append(replace(ALERT, explanation=Explanation((charge,), 503.5)))
    assert f"act1 {shown} 9.0 1.0 2.5 25 %" in Markup(site.page()).text


def test_an_alert_with_no_charges_is_shown(site: Site) -> None:
    site.alerts.append(
        replace(
            ALERT,
            verdict=replace(ALERT.verdict, parts=()),
            explanation=Explanation((), 512.5),
        )
    )
    assert "everything else 512.5" in Markup(site.page()).text


def test_only_the_latest_twenty_alerts_are_shown(site: Site) -> None:
    site.alerts += [replace(ALERT, alert_id=f"alert-{i}") for i in range(25)]
    assert Markup(site.page()).tags.count("details") == 20


def test_an_alert_named_in_the_address_is_open(site: Site) -> None:
    site.alerts += [ALERT, replace(ALERT, alert_id="alert-2")]
    assert '<details id="alert-2" open>' in site.page("?alert=alert-2")


def test_the_page_reloads_itself_until_it_is_paused(site: Site) -> None:
    assert '<meta http-equiv="refresh" content="5">' in site.page()
    assert "http-equiv" not in site.page("?pause")


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


@pytest.mark.parametrize("hostile", [HOSTILE, "\x00\x1b[31m", "\u202e evil", "é" * 5000])
def test_hostile_names_are_shown_and_do_nothing(
    make_site: Callable[[str], Site], hostile: str
) -> None:
    site = make_site(hostile)
    site.metrics.baseline_loaded(replace(MANIFEST, name=hostile), digest=hostile)
    site.metrics.scored(hostile, "live", [verdict(0.5)])
    site.baselines.append(
        replace(MANIFEST, name=hostile, sites=(hostile,), library_versions={hostile: hostile})
    )
    site.alerts_problem = ""
    site.alerts.append(
        replace(
            ALERT,
            alert_id=hostile,
            model=hostile,
            baseline=hostile,
            request_id=hostile,
            input_digest=hostile,
            verdict=replace(ALERT.verdict, parts=(Part(hostile, "set", 1.0, 1.0, 0.5),)),
            explanation=Explanation((Charge(hostile, "set", 0, 1.0, 1.0, 1.0, 0.5),), 0.0),
        )
    )
    page = Markup(site.page())
    assert not {"script", "img", "iframe", "object", "style"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert "49" not in page.text


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
