"""The server that is scraped: it says what it is, and serves until its input ends."""

import asyncio
import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mad.bench.scrape.costs import OPEN, bookkeeping_us, crowd, scrape_cpu
from mad.config import Settings
from mad.deployment import Deployment
from mad.metrics.exposition import exposition
from mad.service import process
from mad.service.deployment import from_settings
from mad.web.server import HttpServer


class Said(NamedTuple):
    """What the server says of itself."""

    grpc_port: int
    http_port: int
    scrape_cpu_ms: float
    lines: int
    bookkeeping_us: float


async def serve(settings: Path) -> None:
    """Serve until the standard input ends; say first where, and what was measured before.

    Each scrape finds that all other baselines have scored since the one before.
    """
    registry = CollectorRegistry()
    server = from_settings(Settings.load(settings), collectors=registry)
    monitor = server.registry.default
    trusted = Deployment.load(settings).trusted()
    judgement = monitor.judge(trusted.take(torch.arange(1)))
    several = monitor.judge(trusted.take(torch.arange(min(64, len(trusted)))))
    server.metrics.scored(monitor.baseline.manifest.name, "live", judgement.verdicts)

    def metrics(_: Request) -> Response:
        crowd(server.metrics, judgement.verdicts)
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
