"""What watching costs a server: ``python -m mad.bench.scrape --config mad.toml``.

A server of the settings runs in a process of its own, with figures for as many other baselines as
get labels of their own, all kinds of traffic each. Windows with a scrape a quarter of a second and
without any take turns in one run, while callers ask for scores one input at a time. Printed as JSON
are the CPU of a scrape, what scoring takes in either kind of window, and which share of a scored
request's CPU goes into counting it.
"""

import argparse
import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
import torch
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mad.client import AsyncClient, ScoreRequest, request
from mad.config import Settings
from mad.deployment import Deployment
from mad.errors import ConfigError
from mad.judgement import Judgement
from mad.metrics import MAX_BASELINES, TRAFFIC, Metrics, Rpc
from mad.metrics.exposition import exposition
from mad.metrics.table import Scored
from mad.monitor import Monitor
from mad.service import process
from mad.service.clock import utc_now
from mad.service.deployment import from_settings
from mad.service.objective import Objective
from mad.service.observed import Observations
from mad.service.registry import Registry
from mad.streams.monitor import Reading
from mad.types import Verdict
from mad.web.server import HttpServer

CALLERS: Final = 4
PERIOD_S: Final = 0.25
ROUNDS: Final = 6
REPEATS: Final = 20_000
KINDS: Final[tuple[Scored, ...]] = (*TRAFFIC, "shadow")
OPEN: Final = "application/openmetrics-text; version=1.0.0"


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds, microseconds and shares, as named. ``cpu_us_a_request`` is the server's."""

    baselines: int
    lines: int
    scrape_cpu_ms: float
    scrapes: int
    requests: int
    p50_ms: float
    p50_ms_scraped: float
    p99_ms: float
    p99_ms_scraped: float
    cpu_us_a_request: float
    bookkeeping_us_a_request: float
    bookkeeping_share: float


def crowd(metrics: Metrics, verdicts: Sequence[Verdict]) -> None:
    """Give figures to as many further baselines as get labels of their own."""
    for number in range(MAX_BASELINES - 1):
        for traffic in KINDS:
            metrics.scored(f"other-{number}", traffic, verdicts)


def scrape_cpu(monitor: Monitor, judgement: Judgement, *, times: int = 15) -> tuple[float, int]:
    """Return the median CPU of a scrape, in milliseconds, and how many lines it is.

    As many baselines as get labels of their own score; each has been fed every kind of traffic
    since the scrape before, so that all of it is to be counted and every promise to be read.
    """
    collectors = CollectorRegistry()
    metrics = Metrics(collectors, model="bench", false_alarm_rates=[0.01])
    observations = Observations(clock=utc_now)
    monitors = [_named(monitor, f"baseline-{number}") for number in range(MAX_BASELINES)]
    registry = Registry(monitors, default="baseline-0")
    metrics.calibration.read_from(Objective(registry, observations).changes)
    taken, written = [], b""
    for _ in range(times):
        for one in monitors:
            _feed(metrics, observations, one, judgement)
        begun = time.thread_time()
        written, _ = exposition(collectors, OPEN)
        taken.append(time.thread_time() - begun)
    return 1e3 * float(np.median(taken)), written.count(b"\n")


def _named(monitor: Monitor, name: str) -> Monitor:
    baseline = monitor.baseline
    manifest = replace(baseline.manifest, name=name)
    return replace(monitor, baseline=replace(baseline, manifest=manifest))


def _feed(
    metrics: Metrics, observations: Observations, monitor: Monitor, judgement: Judgement
) -> None:
    """Let a baseline have scored, in every way that has series."""
    manifest = monitor.baseline.manifest
    metrics.baseline_loaded(manifest, digest="0" * 8)
    for traffic in KINDS:
        metrics.scored(manifest.name, traffic, judgement.verdicts)
    for traffic in TRAFFIC:
        observations.feed(monitor.baseline, traffic, judgement)
    readings = [Reading("fast", 1.0, 16.6, None), Reading("never_false", 1.0, 7.6, None)]
    metrics.stream_read(manifest.name, readings, inputs=1, began=manifest.created)


def bookkeeping_us(monitor: Monitor, judgement: Judgement, *, times: int = REPEATS) -> float:
    """Return the CPU of counting one scored request of one input in, in microseconds."""
    metrics = Metrics(CollectorRegistry(), model="bench", false_alarm_rates=[0.01])
    observations = Observations(clock=utc_now)
    call = metrics.calls.of(Rpc("unary", "mad.v1.ScoringService", "Score"))
    name = monitor.baseline.manifest.name
    begun = time.thread_time()
    for _ in range(times):
        call.started.inc()
        call.received.inc()
        metrics.request_started()
        metrics.batch_ran(1, judgement.stage_seconds)
        metrics.scored(name, "live", judgement.verdicts)
        observations.feed(monitor.baseline, "live", judgement)
        metrics.request_ended()
        call.sent.inc()
        call.ended("OK", 0.001)
    return 1e6 * (time.thread_time() - begun) / times


async def serve(settings: Path) -> None:
    """Serve until the standard input ends; say first where, and what was measured before."""
    registry = CollectorRegistry()
    server = from_settings(Settings.load(settings), collectors=registry)
    monitor = server.registry.default
    trusted = Deployment.load(settings).trusted()
    judgement = monitor.judge(trusted.take(torch.arange(1)))
    several = monitor.judge(trusted.take(torch.arange(min(64, len(trusted)))))
    crowd(server.metrics, judgement.verdicts)
    server.metrics.scored(monitor.baseline.manifest.name, "live", judgement.verdicts)

    def metrics(_: Request) -> Response:
        written, content_type = exposition(registry, OPEN)
        return Response(written, headers={"content-type": content_type})

    http = HttpServer(Starlette(routes=[Route("/metrics", metrics)]), host="127.0.0.1", port=0)
    port = await server.start()
    process.keep_loaded()
    cpu_ms, lines = scrape_cpu(monitor, several)
    said = Said(port, http.start(), cpu_ms, lines, bookkeeping_us(monitor, judgement))
    sys.stdout.write(json.dumps(said._asdict()) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.drain(lame_duck_s=0, grace_s=1)
    http.stop()


class Said(NamedTuple):
    """What the server says of itself."""

    grpc_port: int
    http_port: int
    scrape_cpu_ms: float
    lines: int
    bookkeeping_us: float


async def measure(settings: Path, *, seconds: float, rounds: int = ROUNDS) -> Cost:
    """Take turns between windows of so many seconds with scrapes and without."""
    trusted = Deployment.load(settings).trusted()
    messages = [request(trusted.take(torch.tensor([row]))) for row in range(min(64, len(trusted)))]
    command = [sys.executable, "-m", "mad.bench.scrape", "--serve", "--config", str(settings)]
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    line = await child.stdout.readline()
    if not line:
        raise ConfigError("the server did not start; its last words are above")
    said = Said(**json.loads(line))
    taken: dict[bool, list[float]] = {False: [], True: []}
    cpu_s, scrapes = 0.0, 0
    async with AsyncClient(f"127.0.0.1:{said.grpc_port}") as client:
        await _window(client, messages, seconds)  # warming up
        for number in range(2 * rounds):
            is_scraped = bool(number % 2)
            before = _cpu_s(child.pid)
            scraping = asyncio.create_task(_scraped(said.http_port)) if is_scraped else None
            taken[is_scraped] += await _window(client, messages, seconds)
            if scraping is None:
                cpu_s += _cpu_s(child.pid) - before
            else:
                scraping.cancel()
                scrapes += round(seconds / PERIOD_S)
    child.stdin.close()
    await child.wait()
    bare, scraped = (1e3 * np.array(taken[kind]) for kind in (False, True))
    cpu_us = 1e6 * cpu_s / len(bare)
    return Cost(
        baselines=MAX_BASELINES,
        lines=said.lines,
        scrape_cpu_ms=said.scrape_cpu_ms,
        scrapes=scrapes,
        requests=len(bare) + len(scraped),
        p50_ms=float(np.quantile(bare, 0.5)),
        p50_ms_scraped=float(np.quantile(scraped, 0.5)),
        p99_ms=float(np.quantile(bare, 0.99)),
        p99_ms_scraped=float(np.quantile(scraped, 0.99)),
        cpu_us_a_request=cpu_us,
        bookkeeping_us_a_request=said.bookkeeping_us,
        bookkeeping_share=said.bookkeeping_us / cpu_us,
    )


async def _window(
    client: AsyncClient, messages: Sequence[ScoreRequest], seconds: float
) -> list[float]:
    """Ask as fast as answers come; return what each took, in seconds."""
    taken: list[float] = []
    stop = time.monotonic() + seconds

    async def caller() -> None:
        for message in cycle(messages):
            begun = time.monotonic()
            if begun > stop:
                return
            await client.score(message)
            taken.append(time.monotonic() - begun)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return taken


async def _scraped(port: int) -> None:
    """Scrape now and then."""
    page = f"http://127.0.0.1:{port}/metrics"
    while True:
        await asyncio.to_thread(_get, page)
        await asyncio.sleep(PERIOD_S)


def _get(page: str) -> None:
    with urllib.request.urlopen(page, timeout=10) as answer:  # noqa: S310  # http, as above
        answer.read()


def _cpu_s(process_id: int) -> float:
    """Return the CPU that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure a server of the settings, or be that server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings with a baseline")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a window")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        process.run(serve(asked.config))
        return
    found = asyncio.run(measure(asked.config, seconds=asked.seconds))
    sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
