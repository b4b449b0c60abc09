"""Poison on every side of a good request: refused or flagged, and the good one never knows."""

import asyncio
import math
from collections.abc import Iterator

import grpc
import pytest
import torch
from torch import Tensor, nn

from mad.client import request
from mad.v1 import scoring_pb2 as pb
from tests.service.running import Running, gated, live, until
from tests.service.test_bad_input import BAD_INPUTS
from tests.worlds import World

NEIGHBOURS = 4
MADE = 777.0
"""Of an input that starts with this, the model makes NaN."""


def verdicts(answer: pb.ScoreResponse) -> list[bytes]:
    return [score.verdict.SerializeToString(deterministic=True) for score in answer.scores]


def good(index: int) -> pb.ScoreRequest:
    return request(live(2, seed=100 + index), request_id=f"good-{index}")


async def beside(
    service: Running, world: World, poison: list[pb.ScoreRequest], *, queued: int
) -> tuple[list[pb.ScoreResponse | BaseException], list[list[bytes]]]:
    """Ask good and poisoned requests at once, in one batch as far as they are taken."""
    messages = [
        message
        for index in range(NEIGHBOURS)
        for message in (good(index), *poison[index::NEIGHBOURS])
    ]
    with gated(world) as gate:
        first = asyncio.create_task(service.client.score(live(1)))
        await until(lambda: gate.sizes == [1])
        asked = [asyncio.ensure_future(service.client.scoring.Score(one)) for one in messages]
        await until(lambda: service.queued == 1 + 2 * NEIGHBOURS + queued)
        gate.opened.set()
        found = await asyncio.gather(first, *asked, return_exceptions=True)
    answers = dict(zip([id(one) for one in messages], found[1:], strict=True))
    neighbours = [
        verdicts(answer)
        for message, answer in zip(messages, found[1:], strict=True)
        if message.request_id.startswith("good") and isinstance(answer, pb.ScoreResponse)
    ]
    return [answers[id(one)] for one in poison], neighbours


async def test_what_is_refused_changes_no_bit_of_its_neighbours(
    service: Running, world: World
) -> None:
    clean = [verdicts(await service.client.score(good(index))) for index in range(NEIGHBOURS)]
    poison = [message for message, _ in BAD_INPUTS.values()]
    # Numbers are looked through in the model's thread, so two inputs of each NaN and infinity wait.
    found, neighbours = await beside(service, world, poison, queued=4)
    codes = {
        answer.code() if isinstance(answer, grpc.aio.AioRpcError) else answer for answer in found
    }
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT}
    assert neighbours == clean


EXTREMES = {
    "denormal": torch.full((1, 8), 1e-42),
    "largest": torch.full((1, 8), 3.4e38),
    "negative largest": torch.full((1, 8), -3.4e38),
    "NaN made": torch.full((1, 8), MADE),
}


@pytest.fixture
def breaking(world: World) -> Iterator[None]:
    """Let the model make NaN of some finite inputs."""

    def spoil(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.where(inputs[0][:, :1] == MADE, torch.nan, output)

    handle = world.model.module.get_submodule("0").register_forward_hook(spoil)
    yield
    handle.remove()


@pytest.mark.usefixtures("breaking")
async def test_what_breaks_the_model_is_flagged_and_changes_no_bit_of_its_neighbours(
    service: Running, world: World
) -> None:
    clean = [verdicts(await service.client.score(good(index))) for index in range(NEIGHBOURS)]
    poison = [request({"x": value}, request_id=name) for name, value in EXTREMES.items()]
    found, neighbours = await beside(service, world, poison, queued=len(poison))
    assert neighbours == clean
    alerts = {}
    for name, answer in zip(EXTREMES, found, strict=True):
        assert isinstance(answer, pb.ScoreResponse), answer
        alerts[name] = answer.scores[0]
    for name in ("largest", "negative largest", "NaN made"):
        assert alerts[name].verdict.is_alert
        assert alerts[name].alert_id
    assert alerts["NaN made"].verdict.surprise_bits == math.inf
    kept = {alert.request_id for alert in (await service.client.alerts()).alerts}
    assert kept >= {"largest", "negative largest", "NaN made"}


@pytest.mark.usefixtures("breaking")
async def test_no_nan_reaches_the_sums_of_metrics(service: Running) -> None:
    for value in EXTREMES.values():
        await service.client.score({"x": value})
    samples = [
        (sample.name, sample.value)
        for family in service.collectors.collect()
        for sample in family.samples
    ]
    assert len(samples) > 100
    assert [name for name, value in samples if math.isnan(value)] == []
    assert [name for name, value in samples if name.endswith("_sum") and math.isinf(value)] == []
