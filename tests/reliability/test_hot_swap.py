"""Baselines change under load, and every answer is wholly of one of them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest

from mad.client import request
from mad.fit import fit
from mad.monitor import Monitor
from mad.service.promotion.promoting import PromotionPlan
from mad.v1 import scoring_pb2 as pb, verdict_pb2
from tests.same import same
from tests.service.running import LIMITS, Running, running
from tests.worlds import CREATED, PLAN, Rows, World, numbered, ordinary, quiet

INPUTS = ordinary(16, seed=9)
SWAPS_PER_S = 50
SECONDS = 10.0


Bits: TypeAlias = dict[tuple[str, int], tuple[float, ...]]
"""What each revision says of each input."""


@dataclass(frozen=True)
class Checked:
    """Answers that were each, bit for bit, what the revision it names says of the input alone."""

    expected: Bits
    seen: Counter[str] = field(default_factory=Counter)

    def check(self, index: int, answer: pb.ScoreResponse) -> None:
        """Check one answer."""
        (score,) = answer.scores
        assert measures(score.verdict) == same(self.expected[answer.baseline_revision, index])
        self.seen[answer.baseline_revision] += 1


def measures(verdict: verdict_pb2.Verdict) -> tuple[float, ...]:
    return (
        verdict.surprise_bits,
        verdict.mechanism_bits,
        verdict.novelty_bits,
        verdict.description_bits,
        verdict.p_value,
    )


def revisions(world: World) -> list[Monitor]:
    """Fit three baselines on different trusted data."""
    others = [Rows(scale * ordinary(600, seed=seed)) for seed, scale in ((2, 0.9), (3, 1.1))]
    baselines = [world.baseline] + [
        fit(world.model, world.decomposition, rows, PLAN, created=CREATED, progress=quiet)
        for rows in others
    ]
    return [
        Monitor.bind(world.model, world.decomposition, numbered(baseline, version)).steadied(
            most=LIMITS.max_batch
        )
        for version, baseline in enumerate(baselines, start=1)
    ]


async def expected(service: Running, monitors: list[Monitor]) -> Bits:
    """Ask each revision alone."""
    bits: Bits = {}
    for monitor in monitors:
        service.server.registry.swap([monitor], default="tiny")
        for index, row in enumerate(INPUTS):
            answer = await service.client.score(request({"x": row[None]}))
            bits[answer.baseline_revision, index] = measures(answer.scores[0].verdict)
    return bits


async def ask(service: Running, checked: Checked, stop: asyncio.Event, first: int) -> None:
    """Ask one call after another."""
    index = first
    while not stop.is_set():
        answer = await service.client.score(request({"x": INPUTS[index][None]}))
        checked.check(index, answer)
        index = (index + 7) % len(INPUTS)


async def listen(service: Running, checked: Checked, stop: asyncio.Event) -> None:
    """Ask over a stream."""

    async def endless() -> AsyncIterator[pb.ScoreRequest]:
        index = 0
        while not stop.is_set():
            yield request({"x": INPUTS[index][None]}, request_id=str(index))
            index = (index + 1) % len(INPUTS)
            await asyncio.sleep(0.001)

    async for answer in service.client.stream(endless()):
        checked.check(int(answer.request_id), answer.response)


async def swapped(service: Running, monitors: list[Monitor], *, seconds: float) -> int:
    """Swap the baseline so often, as evenly as the machine allows; return how often."""
    start = time.monotonic()
    swaps = 0
    while (now := time.monotonic()) < start + seconds:
        service.server.registry.swap([monitors[swaps % len(monitors)]], default="tiny")
        swaps += 1
        await asyncio.sleep(max(start + swaps / SWAPS_PER_S - now, 0))
    return swaps


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_swaps_under_load_fail_no_call_and_mix_no_revisions(
    world: World, tmp_path: Path
) -> None:
    monitors = revisions(world)
    # The store's own active version would be put back at the next look at it.
    plan = PromotionPlan(poll_s=3600)
    async with running(world, tmp_path, promotion=plan) as service:
        checked = Checked(await expected(service, monitors))
        assert len(set(checked.expected.values())) == len(monitors) * len(INPUTS)
        stop = asyncio.Event()
        tasks = [asyncio.create_task(ask(service, checked, stop, first)) for first in range(6)]
        tasks.append(asyncio.create_task(listen(service, checked, stop)))
        swaps = await swapped(service, monitors, seconds=SECONDS)
        stop.set()
        await asyncio.gather(*tasks)
    assert checked.seen.keys() == {"tiny@1", "tiny@2", "tiny@3"}
    assert swaps > SWAPS_PER_S * SECONDS / 2
    assert checked.seen.total() > swaps
