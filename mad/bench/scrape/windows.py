"""What scoring takes while a server is scraped, and while it is not: short windows, taking turns.

A block has a window of each kind, in an order drawn for it. ``control`` is as bare as ``bare``, so
that what the design finds between the two is what it finds where there is nothing. Of ``usual``
windows, as many as the period asks for have a scrape, drawn at random.
"""

import asyncio
import math
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Final, Literal, TypeAlias, final

import numpy as np
from jaxtyping import Float64

from mad.bench.paired import Shift, quantile_shift, shift
from mad.client import AsyncClient, ScoreRequest

Kind: TypeAlias = Literal["bare", "control", "usual", "once", "often"]

PERIODS_S: Final[Mapping[Kind, float]] = {
    "bare": math.inf,
    "control": math.inf,
    "usual": 7.5,
    "once": 1.0,
    "often": 0.25,
}
"""Seconds from one scrape to the next: two Prometheis that scrape every 15 s are the usual."""

CALLERS: Final = 4
_PAUSE_S: Final = 0.2


@final
@dataclass(frozen=True, kw_only=True)
class Beside:
    """Milliseconds, of all windows of a kind together, and how much more than of bare ones.

    ``window_p99_more_ms`` is of the quantile within each window, block by block: for kinds with a
    scrape in every window, what one does to the requests beside it.
    """

    requests: int
    scrapes: int
    p50_ms: float
    p99_ms: float
    p50_more_ms: Shift
    p99_more_ms: Shift
    window_p99_more_ms: Shift


@final
@dataclass(frozen=True)
class Load:
    """Callers that ask for scores one input at a time, as fast as answers come."""

    client: AsyncClient
    messages: Sequence[ScoreRequest]

    @staticmethod
    async def of(client: AsyncClient, messages: Sequence[ScoreRequest]) -> "Load":
        """Leave out what raises an alert: its answer waits for the disk.

        Alerts are about as many as the slowest percent, so p99 would be the disk's.
        """
        answers = [await client.score(message) for message in messages]
        return Load(
            client,
            [
                message
                for message, answer in zip(messages, answers, strict=True)
                if not any(score.verdict.is_alert for score in answer.scores)
            ],
        )

    async def window(self, seconds: float) -> list[float]:
        """Return what each answer took, in seconds."""
        taken: list[float] = []
        stop = time.monotonic() + seconds

        async def caller() -> None:
            for message in cycle(self.messages):
                begun = time.monotonic()
                if begun > stop:
                    return
                await self.client.score(message)
                taken.append(time.monotonic() - begun)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return taken


@final
@dataclass(frozen=True)
class Scraper:
    """A process that scrapes an address when it is asked to."""

    process: Process
    page: str

    async def scrape(self, *, period_s: float) -> list[float]:
        """Scrape once a period until cancelled, first after half of one; return what each took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        taken: list[float] = []
        try:
            await asyncio.sleep(min(period_s / 2, 1e6))
            while True:
                self.process.stdin.write(f"{self.page}\n".encode())
                taken.append(float(await self.process.stdout.readline()))
                await asyncio.sleep(max(period_s - taken[-1], 0.0))
        except asyncio.CancelledError:
            return taken


@asynccontextmanager
async def scraper(page: str) -> AsyncIterator[Scraper]:
    """Start the process, and end it after the block."""
    command = [sys.executable, "-m", "mad.bench.scrape.scraper"]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield Scraper(process, page)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@final
@dataclass(frozen=True)
class Window:
    """What each answer of one window took, in milliseconds, and each scrape, in seconds."""

    taken_ms: Float64[np.ndarray, " request"]
    scrapes_s: Sequence[float]


async def blocks(
    load: Load, scraping: Scraper, *, number: int, seconds: float, chance: random.Random
) -> Mapping[Kind, Sequence[Window]]:
    """Measure so many blocks of windows of so many seconds; a kind's windows are in block order."""
    found: dict[Kind, list[Window]] = {kind: [] for kind in PERIODS_S}
    await load.window(seconds)  # warming up
    for _ in range(number):
        for kind in chance.sample(list(PERIODS_S), len(PERIODS_S)):
            await asyncio.sleep(_PAUSE_S)
            period = PERIODS_S[kind]
            if period > seconds:
                period = seconds if chance.random() < seconds / period else math.inf
            scrapes = asyncio.create_task(scraping.scrape(period_s=period))
            taken = await load.window(seconds)
            scrapes.cancel()
            found[kind].append(Window(1e3 * np.array(taken), await scrapes))
    return found


def compared(
    windows: Mapping[Kind, Sequence[Window]], *, chance: np.random.Generator
) -> Mapping[Kind, Beside]:
    """Hold each kind against the bare windows of the same blocks."""
    bare = windows["bare"]

    def beside(found: Sequence[Window]) -> Beside:
        these, those = ([one.taken_ms for one in kind] for kind in (found, bare))
        p50, p99 = np.quantile(np.concatenate(these), (0.5, 0.99)).tolist()
        of_windows = [
            np.quantile(a, 0.99) - np.quantile(b, 0.99) for a, b in zip(these, those, strict=True)
        ]
        return Beside(
            requests=sum(map(len, these)),
            scrapes=sum(len(one.scrapes_s) for one in found),
            p50_ms=p50,
            p99_ms=p99,
            p50_more_ms=quantile_shift(these, those, quantile=0.5, chance=chance),
            p99_more_ms=quantile_shift(these, those, quantile=0.99, chance=chance),
            window_p99_more_ms=shift(of_windows),
        )

    return {kind: beside(found) for kind, found in windows.items()}
