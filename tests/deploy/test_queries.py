"""Every query of every panel is answered by a real Prometheus that scrapes the real service."""

import json
import math
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mad.client import Client, fit_config
from mad.client.calibration import TRAFFIC
from mad.v1.scoring_pb2 import ScoreOptions
from tests.cli.test_serve import serving
from tests.deploy.boards import NAMES, Asked, asked, filled, read
from tests.reliability.ports import free_ports
from tests.worlds import ordinary, strange

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is missing: apt install prometheus"
    ),
]
RUN_S = 12
SCRAPES = "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Run a Prometheus that scrapes a server; return its address."""
    (port,) = free_ports(1)
    jobs = f"scrape_configs: [{{job_name: mad, static_configs: [{{targets: ['{target}']}}]}}]\n"
    (folder / "prometheus.yml").write_text(SCRAPES + jobs)
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(command) as process:
        try:
            await_scrape(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def await_scrape(server: str) -> None:
    """Wait for what increases to have been seen before: counters that begin high do not."""
    stop = time.monotonic() + 60
    while time.monotonic() < stop:
        with suppress(urllib.error.URLError):
            if any(one["value"][1] == "1" for one in answer(server, "query", query="up")):
                return
        time.sleep(0.2)
    pytest.fail("Prometheus scrapes nothing")


def answer(server: str, call: str, **parameters: object) -> list[dict[str, Any]]:
    """Ask Prometheus; fail with its own words."""
    page = f"{server}/api/v1/{call}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(page, timeout=30) as said:  # noqa: S310  # http, above
            found: list[dict[str, Any]] = json.load(said)["data"]["result"]
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        pytest.fail(f"{parameters['query']}: {error.read().decode()}")
    return found


def scored(client: Client, seed: int) -> None:
    """Have some inputs of each kind scored."""
    usual, odd = ordinary(40, seed=seed).numpy(), strange(3, seed=seed).numpy()
    for traffic, inputs in (("live", usual), ("trusted", usual), ("live", odd), ("canary", odd)):
        client.score({"x": inputs}, options=ScoreOptions(traffic=TRAFFIC[traffic]))


def happened(client: Client) -> None:
    """Have the rest happen once: an acknowledgement, a bad request, a fit that fails, and one."""
    (alert,) = client.alerts(page_size=1).alerts
    client.alert_log.acknowledge("expected", alert_id=alert.alert_id)
    with pytest.raises(grpc.RpcError):
        client.score({"x": np.zeros((1, 3), np.float32)})
    job = client.fits.send({"x": ordinary(600, seed=8).numpy()}, fit_config(source="test"))
    client.fits.wait(job.job_id)


@pytest.fixture(scope="module")
def watched(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve, be scraped, and have traffic for some seconds."""
    home = shutil.copytree(fitted.parent, tmp_path_factory.mktemp("watched") / "home")
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        serving(home / "mad.toml") as served,
        prometheus(folder, f"127.0.0.1:{served.http_port}") as server,
        Client(served.address, timeout_s=60) as client,
    ):
        scored(client, 1)
        happened(client)
        stop = time.monotonic() + RUN_S
        for seed in count(2):
            if time.monotonic() > stop:
                break
            scored(client, seed)
            time.sleep(0.2)
        yield server


def values(server: str, query: Asked, *, chosen: str) -> list[float]:
    """Return every number a panel would draw."""
    expr, now = filled(query.expr, traffic=chosen), time.time()
    if query.is_instant:
        series = answer(server, "query", query=expr, time=now)
        return [float(one["value"][1]) for one in series]
    series = answer(server, "query_range", query=expr, start=now - 4, end=now, step=1)
    return [float(value) for one in series for _, value in one["values"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_shows_something_of_a_service_in_use(watched: str, name: str) -> None:
    board = read(name)
    wrong = []
    for chosen in ("live", "trusted") if name == "calibration" else ("live",):
        for query in asked(board):
            found = values(watched, query, chosen=chosen)
            if not found or all(math.isnan(one) for one in found):
                wrong.append((query.title, query.expr, found[:3]))
    assert not wrong


def test_variables_and_annotations_are_answered(watched: str) -> None:
    for variable in read("service")["templating"]["list"]:
        if variable["type"] == "query":
            asks = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
            expr, label = asks.rsplit(", ", 1)
            found = answer(watched, "query", query=filled(expr, traffic="live"))
            assert {one["metric"][label] for one in found}
    (own,) = [one for one in read("calibration")["annotations"]["list"] if "expr" in one]
    answer(watched, "query", query=filled(own["expr"], traffic="live"))
