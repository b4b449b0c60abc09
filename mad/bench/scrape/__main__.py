"""What watching costs a server: ``python -m mad.bench.scrape --config mad.toml``.

A server of the settings runs in a process of its own, with figures for as many other baselines as
get labels of their own, all kinds of traffic each. Printed as JSON are the CPU of a scrape, which
share of a scored request's CPU goes into counting it, and what scoring takes while the server is
scraped and while it is not (``windows``), with intervals of the differences.
"""

import argparse
import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from mad.bench.paired import Shift
from mad.bench.scrape.served import Said, serve
from mad.bench.scrape.windows import Beside, Kind, Load, blocks, compared, scraper
from mad.client import AsyncClient, request
from mad.deployment import Deployment
from mad.errors import ConfigError
from mad.metrics import MAX_BASELINES
from mad.service import process


@final
@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds, microseconds and shares, as named. ``cpu_us_a_request`` is the server's.

    ``scrape_ms`` is the median time that a scrape took beside the load, from asking to the end.
    """

    baselines: int
    lines: int
    scrape_cpu_ms: float
    scrape_ms: float
    cpu_us_a_request: float
    bookkeeping_us_a_request: float
    bookkeeping_share: float
    beside: Mapping[Kind, Beside]
    verdict: Mapping[Kind, str]


async def measure(settings: Path, *, seconds: float, number: int) -> Cost:
    """Measure so many blocks of windows of so many seconds."""
    trusted = Deployment.load(settings).trusted()
    messages = [request(trusted.take(torch.tensor([row]))) for row in range(min(64, len(trusted)))]
    command = [sys.executable, "-m", "mad.bench.scrape", "--serve", "--config", str(settings)]
    child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    line = await child.stdout.readline()
    if not line:
        raise ConfigError("the server did not start; its last words are above")
    said = Said(**json.loads(line))
    before = _cpu_s(child.pid)
    page = f"http://127.0.0.1:{said.http_port}/metrics"
    async with AsyncClient(f"127.0.0.1:{said.grpc_port}") as client, scraper(page) as scraping:
        load = await Load.of(client, messages)
        chance = random.Random(0)  # noqa: S311  # no secret
        windows = await blocks(load, scraping, number=number, seconds=seconds, chance=chance)
    cpu_s = _cpu_s(child.pid) - before
    child.stdin.close()
    await child.wait()
    beside = compared(windows, chance=np.random.default_rng(0))
    cpu_us = 1e6 * cpu_s / sum(one.requests for one in beside.values())
    scrapes_s = [s for found in windows.values() for one in found for s in one.scrapes_s]
    return Cost(
        baselines=MAX_BASELINES,
        lines=said.lines,
        scrape_cpu_ms=said.scrape_cpu_ms,
        scrape_ms=1e3 * float(np.median(scrapes_s)),
        cpu_us_a_request=cpu_us,
        bookkeeping_us_a_request=said.bookkeeping_us,
        bookkeeping_share=said.bookkeeping_us / cpu_us,
        beside=beside,
        verdict={k: _verdict(one.p99_more_ms) for k, one in beside.items() if k != "bare"},
    )


def _verdict(more: Shift) -> str:
    if more.is_told_apart:
        return f"p99 differs from bare by {more.low:+.1f} to {more.high:+.1f} ms"
    return f"p99 is not told apart from bare; between {more.low:+.1f} and {more.high:+.1f} ms"


def _cpu_s(process_id: int) -> float:
    """Return the CPU that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure a server of the settings, or be that server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings with a baseline")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a window")
    parser.add_argument("--blocks", type=int, default=60, help="of a window a kind")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        process.run(serve(asked.config))
        return
    found = asyncio.run(measure(asked.config, seconds=asked.seconds, number=asked.blocks))
    sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
