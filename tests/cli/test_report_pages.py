"""``mad report baseline``, ``alerts`` and ``calibration``: pages that open anywhere."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mad.alerts.acknowledging import Finding
from mad.alerts.log import AlertLog
from mad.alerts.values import Acknowledgement
from mad.baseline.bundle import Provenance
from mad.baseline.store import BaselineStore
from mad.client import Client
from mad.client.calibration import traffic_options
from tests.cli.conftest import Mad
from tests.cli.test_report_dictionary import HOSTILE
from tests.cli.test_serve import serving
from tests.markup import Markup
from tests.web.conftest import ALERT
from tests.worlds import ordinary, strange

Logged = Callable[..., Path]


@pytest.fixture
def deployed(tmp_path: Path, fitted: Path) -> Path:
    return shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"


def page_of(html: Path) -> Markup:
    """Read a page, which has no script and asks nothing of any network."""
    page = Markup(html.read_text())
    assert "script" not in page.tags
    assert "img" not in page.tags
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"src", "href"}
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert ("content", policy) in page.attributes
    return page


def rows_of(page: Markup) -> list[str]:
    """Return the words of a page, one a cell."""
    return [word.strip() for word in page.words if word.strip()]


def test_a_baseline_tells_what_its_reference_supports_and_who_made_it(
    tmp_path: Path, mad: Mad, deployed: Path
) -> None:
    store = BaselineStore(deployed.parent / "baselines")
    made = Provenance(principal=HOSTILE, source="week 48", inputs=600, quarantined_inputs=7)
    store.save(store.load("default"), activate=False, provenance=made)
    html = tmp_path / "b.html"
    done = mad("report", "baseline", deployed, "--baseline", "default@2", "--html", html)
    assert (done.code, done.out) == (0, f"written to {html}\n")
    words = rows_of(page_of(html))
    assert "Baseline default@2 of tiny" in words
    assert HOSTILE in words
    assert "7 of 600" in words
    # A quarter of 600 inputs: 1 / 151 is the smallest rate that 150 can have.
    assert "Rates that a reference of 150 supports" in words
    for rate, is_supported, needed in (("1 %", "yes", "99"), ("0.5 %", "no", "199")):
        place = words.index(rate, words.index("inputs needed"))
        assert words[place + 1 : place + 3] == [is_supported, needed]
    assert {"set", "residual", "neighbours", "torch"} <= set(words)


def test_alerts_are_counted_by_day_incident_and_component_and_shown_with_their_ledger(
    tmp_path: Path, mad: Mad, deployed: Path
) -> None:
    log = AlertLog.open(f"sqlite:///{deployed.with_name('alerts.db')}")
    days = [ALERT.time + timedelta(days=day) for day in (0, 0, 2)]
    log.append(
        [
            replace(
                ALERT, alert_id=f"alert-{place}", time=time, request_id=HOSTILE, input_index=place
            )
            for place, time in enumerate(days)
        ]
    )
    said = Acknowledgement("false_positive", "", "", days[2])
    log.acknowledge(Finding(said=said, alert_id="alert-0"))
    log.close()
    html = tmp_path / "a.html"
    done = mad("report", "alerts", "--config", deployed, "--html", html, "--latest", "1")
    assert done.code == 0, done.err
    words = rows_of(page_of(html))
    assert "3 alerts" in words
    counted = [word for word in words if word.startswith(f"{ALERT.time:%d %b}: ")]
    assert counted == [f"{ALERT.time:%d %b}: 2"]
    empty = ALERT.time + timedelta(days=1)
    assert f"{empty:%d %b}: 0" in words
    assert "false positive: 1" in words
    assert "nobody has said: 2" in words
    assert "Alert alert-2" in words
    assert "Alert alert-1" not in words
    (part, *_) = ALERT.verdict.parts
    assert f"{part.bits:.1f}" in words[words.index("Ledger") :]
    few = mad("report", "alerts", "--config", deployed, "--html", html, "--most", "2")
    assert few.code == 0
    assert "older ones are left out" in html.read_text()


def test_no_alerts_are_said_to_be_none(tmp_path: Path, mad: Mad, deployed: Path) -> None:
    AlertLog.open(f"sqlite:///{deployed.with_name('alerts.db')}").close()
    html = tmp_path / "a.html"
    assert mad("report", "alerts", "--config", deployed, "--html", html).code == 0
    assert f"None, from {deployed}." in rows_of(page_of(html))


@pytest.mark.slow
def test_a_server_tells_of_its_alerts_and_its_calibration(
    tmp_path: Path, mad: Mad, deployed: Path
) -> None:
    alerts, calibration = tmp_path / "a.html", tmp_path / "c.html"
    with serving(deployed) as served, Client(served.address, timeout_s=60) as client:
        client.score({"x": ordinary(60, seed=4).numpy()}, options=traffic_options("trusted"))
        client.score({"x": strange(3, seed=5).numpy()})
        at = ("--address", served.address)
        assert mad("report", "alerts", *at, "--html", alerts).code == 0
        assert mad("report", "calibration", *at, "--html", calibration).code == 0
        logged = tmp_path / "l.html"
        assert mad("report", "alerts", "--config", deployed, "--html", logged).code == 0
    told, read = rows_of(page_of(alerts)), rows_of(page_of(logged))
    assert "3 alerts" in told
    assert [word for word in told if served.address not in word] == [
        word for word in read if str(deployed) not in word
    ]
    words = rows_of(page_of(calibration))
    assert "Calibration of default@1" in words
    live, trusted, canary = (
        words.index(f"{kind} traffic") for kind in ("Live", "Trusted", "Canary")
    )
    assert words[canary + 1] == "No inputs of this kind have been scored."
    assert any(word.startswith("3 since") for word in words[live:trusted])
    assert any(word.startswith("60 since") for word in words[trusted:canary])
    assert "evidence of lost calibration" in words[trusted:canary]


@pytest.mark.parametrize("report", ["baseline", "alerts", "calibration"])
def test_a_place_that_is_not_there_is_refused_before_the_work(
    tmp_path: Path, mad: Mad, fitted: Path, report: str
) -> None:
    settings = (fitted,) if report == "baseline" else ()
    done = mad("report", report, *settings, "--html", tmp_path / "nowhere" / "a.html")
    assert done.code == 2
    assert "there is no directory" in done.err


def test_a_log_or_server_that_is_not_there_is_said_to_be_missing(
    tmp_path: Path, mad: Mad, deployed: Path
) -> None:
    html = tmp_path / "a.html"
    done = mad("report", "alerts", "--config", deployed, "--html", html)
    assert done.code == 2
    assert "there is no alert log" in done.err
    done = mad("report", "calibration", "--address", "127.0.0.1:9", "--html", html)
    assert done.code == 2
    assert "no server answers at 127.0.0.1:9" in done.err
    assert not html.exists()
