"""Names from elsewhere are shown as they are, and do nothing."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest

from mad.alerts.values import Acknowledgement, Mechanism
from mad.baseline.bundle import Provenance
from mad.baseline.store import Entry
from mad.types import Charge, Explanation, Part
from tests.markup import Markup
from tests.web.conftest import ALERT, INCIDENT, MANIFEST, NOW, Site, verdict

HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7777 * 7777 }}&amp;"""


@pytest.mark.parametrize(
    "hostile", [HOSTILE, HOSTILE.replace("/", "\\"), "\x00\x1b[31m", "\u202e evil", "é" * 5000]
)
def test_hostile_names_are_shown_and_do_nothing(
    make_site: Callable[[str], Site], hostile: str
) -> None:
    site = make_site(hostile)
    site.metrics.baseline_loaded(replace(MANIFEST, name=hostile), digest=hostile)
    site.metrics.scored(hostile, "live", [verdict(0.5)])
    site.baselines.append(
        replace(MANIFEST, name=hostile, sites=(hostile,), library_versions={hostile: hostile})
    )
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
    site.said[hostile] = Acknowledgement("expected", hostile, hostile, NOW)
    site.incidents.append(
        replace(
            INCIDENT,
            incident_id=hostile,
            baseline=hostile,
            representative_alert_id=hostile,
            profile=((Mechanism(hostile, "set", 0), 1.0),),
        )
    )
    manifest = site.baselines[0]
    origin = Provenance(principal=hostile, source=hostile, data_digest=hostile, job_id=hostile)
    site.entries.append(Entry(manifest, hostile, ("active",), origin))
    segment = quote(hostile, safe="")
    short = hostile[:500]  # clients take no longer address
    query = urlencode({"baseline": short, "request": short, "incident": short})
    paths = ["/", "/alerts", f"/alerts?{query}", f"/nothing/{segment}"]
    if "/" not in hostile:
        paths += [f"/alerts/{segment}", f"/baselines/{segment}"]
    for path in paths:
        answer = site.client.get(path)
        assert answer.status_code == (404 if path.startswith("/nothing") else 200)
        harmless(Markup(answer.text))
    refused = site.client.get("/alerts", params={"state": short, "least_bits": short})
    assert refused.status_code == 400
    harmless(Markup(refused.text))


def harmless(page: Markup) -> None:
    """Check that nothing of a page is markup that the templates do not have."""
    assert not {"img", "iframe", "object", "style", "b"} & set(page.tags)
    assert page.tags.count("script") in (0, 1)
    assert [value for name, value in page.attributes if name == "src"] in ([], ["/live.js"])
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert all(link.startswith(("/", "#main", "?")) for link in links)
    assert "60481729" not in page.text
