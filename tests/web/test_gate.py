"""Who may read metrics and the page, where not everybody may."""

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import replace

import httpx
import pytest
import trustme
from prometheus_client import CollectorRegistry

from mad.baseline.bundle import Baseline
from mad.errors import UnauthenticatedError
from mad.metrics import Metrics
from mad.web.application import application
from mad.web.behind import Deed, Entrance, Visitor
from mad.web.server import HttpServer
from tests.web.conftest import Site

KNOWN = {"Bearer analyst": b"analyst", "Bearer other": b"other"}


def credential(headers: Sequence[str]) -> bytes:
    if len(headers) == 1 and headers[0] in KNOWN:
        return KNOWN[headers[0]]
    raise UnauthenticatedError("nobody")


def visitor(shown: bytes) -> Visitor:
    deeds: frozenset[Deed] = frozenset({"read"} if shown == b"analyst" else set())
    return Visitor(shown.decode(), shown, deeds)


@pytest.fixture
def site(fitted: Baseline) -> Iterator[httpx.Client]:
    """Serve over TLS, to one analyst."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="m", false_alarm_rates=(0.01,))
    with httpx.Client() as unused:
        behind = Site(metrics, unused, fitted).behind("m")
    entrance = Entrance(is_asking=lambda: True, credential=credential, visitor=visitor)
    app = application(registry, replace(behind, entrance=entrance))
    server = HttpServer(app, host="127.0.0.1", port=0, tls=context)
    address = f"https://127.0.0.1:{server.start()}"
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with httpx.Client(base_url=address, verify=trusting, trust_env=False) as client:
        yield client
    server.stop()


@pytest.mark.parametrize("path", ["/", "/metrics", "/alerts", "/nothing"])
def test_metrics_and_the_page_are_for_who_may_read_alerts(site: httpx.Client, path: str) -> None:
    anonymous = site.get(path)
    assert anonymous.status_code == 401
    assert anonymous.headers["www-authenticate"] == 'Bearer realm="mad"'
    assert anonymous.headers["x-content-type-options"] == "nosniff"
    other = site.get(path, headers={"authorization": "Bearer other"})
    assert (other.status_code, other.text) == (
        403,
        "send authorization: Bearer TOKEN, of a principal with the role alerts.read\n",
    )
    analyst = site.get(path, headers={"authorization": "Bearer analyst"})
    assert analyst.status_code == (404 if path == "/nothing" else 200)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/style.css", "/live.js", "/sign-in"])
def test_health_and_what_it_takes_to_sign_in_is_for_everybody(
    site: httpx.Client, path: str
) -> None:
    assert site.get(path).status_code == 200


def test_two_headers_are_not_one(site: httpx.Client) -> None:
    headers = [("authorization", "Bearer analyst"), ("authorization", "Bearer other")]
    assert site.get("/metrics", headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["//metrics", "/healthz/../metrics", "/readyz%2f..%2fmetrics"])
def test_no_spelling_of_a_path_gets_around_the_gate(site: httpx.Client, path: str) -> None:
    assert site.get(path).status_code in (401, 404)
