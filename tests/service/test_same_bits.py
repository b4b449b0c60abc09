"""The same input gets the same bits: alone, in company, over a stream, and after a restart."""

import asyncio
import random
from pathlib import Path

import torch

from mad.client import request
from mad.v1.scoring_pb2 import ScoreRequest, ScoreResponse
from mad.v1.verdict_pb2 import Verdict
from tests.same import same
from tests.service.running import gated, running, until
from tests.worlds import World, ordinary, strange

INPUTS = torch.cat([ordinary(12, seed=21), strange(4, seed=22)])


def numbers(verdict: Verdict) -> list[float]:
    """Return every measure and part."""
    parts = [(part.bits, part.rarity_bits, part.rare_components_bits) for part in verdict.parts]
    measures = (verdict.surprise_bits, verdict.mechanism_bits, verdict.novelty_bits)
    return [*measures, verdict.description_bits, verdict.p_value, *sum(parts, start=())]


def of(answer: ScoreResponse) -> list[list[float]]:
    return [numbers(score.verdict) for score in answer.scores]


def messages(groups: list[list[int]]) -> list[ScoreRequest]:
    return [
        request({"x": INPUTS[rows]}, request_id=f"{number}") for number, rows in enumerate(groups)
    ]


async def test_bits_do_not_depend_on_company_transport_or_process(
    world: World, tmp_path: Path
) -> None:
    shuffled = [row for _ in range(4) for row in range(len(INPUTS))]
    draw = random.Random(0)  # no secret
    draw.shuffle(shuffled)
    groups = []
    while shuffled:
        size = draw.randint(1, 11)
        groups.append(shuffled[:size])
        del shuffled[:size]
    found: list[tuple[int, list[float]]] = []
    async with running(world, tmp_path / "one") as service:
        alone = [of(await service.client.score({"x": row.unsqueeze(0)}))[0] for row in INPUTS]
        with gated(world) as gate:
            asked = [asyncio.create_task(service.client.score(one)) for one in messages(groups)]
            await until(lambda: service.queued == 4 * len(INPUTS))
            gate.opened.set()
            for rows, answer in zip(groups, await asyncio.gather(*asked), strict=True):
                found += zip(rows, of(answer), strict=True)
        assert max(gate.sizes) > 1
        async for streamed in service.client.stream(messages(groups)):
            found += zip(groups[int(streamed.request_id)], of(streamed.response), strict=True)
    async with running(world, tmp_path / "two") as again:
        for rows, message in zip(groups, messages(groups), strict=True):
            found += zip(rows, of(await again.client.score(message)), strict=True)
    assert len(found) == 3 * 4 * len(INPUTS)
    for row, own in found:
        assert own == same(alone[row])
