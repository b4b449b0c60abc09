"""The routes a machine reads."""

import socket

import pytest

from mad.errors import ConfigError
from mad.web.server import HttpServer
from tests.web.conftest import MANIFEST, Site, verdict


def test_metrics_are_plain_prometheus_text(site: Site) -> None:
    site.metrics.scored("default", "live", [verdict(0.5)])
    response = site.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (
        'mad_inputs_scored_total{baseline="default",model="demo",traffic="live"} 1.0'
        in response.text
    )


def test_metrics_are_openmetrics_when_asked_for(site: Site) -> None:
    response = site.client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_a_running_server_is_alive_before_it_is_ready(site: Site) -> None:
    site.is_ready = False
    assert site.client.get("/healthz").status_code == 200
    assert site.client.get("/readyz").status_code == 503


def test_a_ready_server_says_so(site: Site) -> None:
    assert site.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/style.css", "/readyz", "/nothing-here"])
def test_every_answer_forbids_foreign_scripts_and_frames(site: Site, path: str) -> None:
    policy = site.client.get(path).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_the_style_sheet_is_served_here(site: Site) -> None:
    response = site.client.get("/style.css")
    assert response.headers["content-type"].startswith("text/css")
    assert "prefers-color-scheme: dark" in response.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed_over_http(site: Site, method: str) -> None:
    site.baselines.append(MANIFEST)
    assert site.client.request(method, "/").status_code == 405


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
            HttpServer(nothing, host="127.0.0.1", port=port).start()


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.7", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 70000)]
)
def test_an_address_that_cannot_be_listened_on_is_refused(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match="cannot serve HTTP on"):
        HttpServer(nothing, host=host, port=port).start()


def test_a_stopped_server_frees_its_port() -> None:
    first = HttpServer(nothing, host="127.0.0.1", port=0)
    port = first.start()
    first.stop()
    second = HttpServer(nothing, host="127.0.0.1", port=port)
    assert second.start() == port
    second.stop()


async def nothing(scope: object, receive: object, send: object) -> None:
    """Answer no request: an application for servers that get none."""


def test_browsers_that_ask_for_an_icon_are_told_there_is_none(site: Site) -> None:
    answer = site.client.get("/favicon.ico")
    assert (answer.status_code, answer.content) == (204, b"")
