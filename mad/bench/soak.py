"""Steady load on a real server for long: ``python -m mad.bench.soak --config mad.toml``.

A server of the settings is started in a process of its own, and asked for scores of trusted inputs
at a share of what it can answer. Memory must not grow once it is warm, nor the number of open
files, and no call may fail; anything else exits with 1. What is found is printed as JSON.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Final, final

import grpc
import numpy as np
import torch
from torch import Tensor

from mad.client import AsyncClient, ScoreRequest, request
from mad.deployment import Deployment
from mad.errors import ConfigError

log = logging.getLogger(__name__)

START_S: Final = 120.0
CALIBRATION_S: Final = 5.0
SAMPLE_S: Final = 1.0
CALLERS: Final = 8
MORE_FILES: Final = 8
MIB: Final = 1024 * 1024


@final
@dataclass(frozen=True, kw_only=True)
class Soaked:
    """What came of it. Growth is of resident memory, once the server was warm."""

    capacity_per_s: float
    load_per_s: float
    answered: int
    failed: int
    growth_mib_per_min: float
    growth_mib: float
    fewest_files: int
    most_files: int

    def holds(self, *, growth_mib_per_min: float, more_files: int) -> bool:
        """Whether nothing failed and nothing grew beyond what is allowed."""
        return (
            self.failed == 0
            and self.growth_mib_per_min < growth_mib_per_min
            and self.most_files - self.fewest_files <= more_files
        )


async def soak(
    settings: Path, *, seconds: float, load: float = 0.6, warm_s: float = 300.0
) -> Soaked:
    """Load a server of the settings; memory counts from ``warm_s`` on.

    Raises ConfigError if it does not start.
    """
    messages = [request(inputs) for inputs in _inputs(settings)]
    async with _served(settings) as (address, process_id), AsyncClient(address) as client:
        closed = await _closed_loop(client, messages, seconds=CALIBRATION_S)
        per_s = load * closed.answered / CALIBRATION_S
        watching = asyncio.create_task(_watched(Path(f"/proc/{process_id}"), seconds))
        opened = await _open_loop(client, messages, per_s=per_s, seconds=seconds)
        samples = np.array(await watching)
    warm = samples[samples[:, 0] >= min(warm_s, seconds / 2)]
    slope, _ = np.polyfit(warm[:, 0], warm[:, 1], 1)
    return Soaked(
        capacity_per_s=closed.answered / CALIBRATION_S,
        load_per_s=per_s,
        answered=opened.answered,
        failed=closed.failed + opened.failed,
        growth_mib_per_min=float(60 * slope / MIB),
        growth_mib=float((warm[-1, 1] - warm[0, 1]) / MIB),
        fewest_files=int(warm[:, 2].min()),
        most_files=int(warm[:, 2].max()),
    )


def _inputs(settings: Path) -> list[Mapping[str, Tensor]]:
    """Read a few trusted inputs, one at a time."""
    trusted = Deployment.load(settings).trusted()
    return [trusted.take(torch.tensor([row])) for row in range(min(64, len(trusted)))]


@asynccontextmanager
async def _served(settings: Path) -> AsyncIterator[tuple[str, int]]:
    """Serve on free ports in another process; give its address and its process id."""
    with tempfile.TemporaryDirectory() as directory:
        ports = Path(directory) / "ports.json"
        free = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]
        command = [sys.executable, "-m", "mad.cli.main", "serve", str(settings), *free]
        process = await asyncio.create_subprocess_exec(
            *command, "--ports-file", str(ports), stdout=subprocess.DEVNULL
        )
        try:
            yield f"127.0.0.1:{await _port(process, ports)}", process.pid
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def _port(process: asyncio.subprocess.Process, ports: Path) -> int:
    end = time.monotonic() + START_S
    while not ports.exists():
        if process.returncode is not None or time.monotonic() > end:
            raise ConfigError("the server did not start; its last words are above")
        await asyncio.sleep(0.1)
    port: int = json.loads(ports.read_text())["grpc"]
    return port


@dataclass
class _Ends:
    """How calls ended."""

    answered: int = 0
    failed: int = 0

    async def ask(self, client: AsyncClient, message: ScoreRequest) -> None:
        """Make one call."""
        try:
            await client.score(message)
            self.answered += 1
        except grpc.aio.AioRpcError as error:
            self.failed += 1
            log.warning("a call failed: %s", error)


async def _closed_loop(
    client: AsyncClient, messages: Sequence[ScoreRequest], *, seconds: float
) -> _Ends:
    """Ask as fast as answers come."""
    ends = _Ends()
    stop = time.monotonic() + seconds

    async def caller() -> None:
        for message in cycle(messages):
            if time.monotonic() > stop:
                return
            await ends.ask(client, message)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return ends


async def _open_loop(
    client: AsyncClient, messages: Sequence[ScoreRequest], *, per_s: float, seconds: float
) -> _Ends:
    """Ask so often, whether or not answers come."""
    ends = _Ends()
    start = time.monotonic()
    async with asyncio.TaskGroup() as calls:
        for index, message in zip(range(round(per_s * seconds)), cycle(messages), strict=False):
            await asyncio.sleep(max(start + index / per_s - time.monotonic(), 0))
            calls.create_task(ends.ask(client, message))
    return ends


async def _watched(process: Path, seconds: float) -> list[tuple[float, int, int]]:
    """Sample time, memory and open files of a process, once a second."""
    page = os.sysconf("SC_PAGE_SIZE")
    start = time.monotonic()
    samples = []
    while (now := time.monotonic() - start) < seconds:
        pages = int((process / "statm").read_text().split()[1])
        samples.append((now, pages * page, len(list((process / "fd").iterdir()))))
        await asyncio.sleep(SAMPLE_S)
    return samples


def main() -> int:
    """Soak a server as the command line asks; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="settings with a fitted baseline"
    )
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--load", type=float, default=0.6, help="share of what it can answer")
    parser.add_argument("--warm-seconds", type=float, default=300.0)
    parser.add_argument("--growth", type=float, default=1.0, help="MiB a minute that are allowed")
    asked = parser.parse_args()
    found = asyncio.run(
        soak(asked.config, seconds=asked.seconds, load=asked.load, warm_s=asked.warm_seconds)
    )
    sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
    return 0 if found.holds(growth_mib_per_min=asked.growth, more_files=MORE_FILES) else 1


if __name__ == "__main__":
    sys.exit(main())
