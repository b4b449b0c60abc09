"""Batching: company changes no verdict, poison kills one request, no work for those who left."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from torch import Tensor, nn

from mad.client import request
from mad.monitor import Monitor
from mad.service import convert
from mad.service.errors import INTERNAL_TEXT
from mad.service.raw import raw_bytes
from mad.v1.scoring_pb2 import ScoreOptions, ScoreRequest, ScoreResponse
from mad.v1.scoring_pb2_grpc import ScoringServiceStub
from tests.same import same
from tests.service.running import (
    INNERMOST,
    LIMITS,
    POISON,
    Running,
    gated,
    live,
    running,
    until,
)
from tests.worlds import World, numbered


def bits(answer: ScoreResponse) -> list[float]:
    return [score.verdict.surprise_bits for score in answer.scores]


def singles(count: int) -> list[ScoreRequest]:
    return [request(live(1, seed=seed), request_id=str(seed)) for seed in range(count)]


async def test_company_changes_no_verdict(service: Running, world: World) -> None:
    messages = singles(9)
    alone = [bits(await service.client.score(message)) for message in messages]
    with gated(world) as gate:
        answers = [asyncio.create_task(service.client.score(messages[0]))]
        await until(lambda: gate.sizes == [1])
        answers += [asyncio.create_task(service.client.score(each)) for each in messages[1:]]
        await until(lambda: service.queued == 9)
        gate.opened.set()
        together = [bits(answer) for answer in await asyncio.gather(*answers)]
    assert gate.sizes == [1, 8]
    assert together == [same(one) for one in alone]


async def test_a_lone_request_waits_for_no_company(service: Running, world: World) -> None:
    with gated(world) as gate:
        gate.opened.set()
        await service.client.score(live(1))
    assert gate.sizes == [1]


async def test_poison_kills_its_own_request_only(
    service: Running, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned = request({"x": torch.full((1, 8), POISON)}, request_id="poisoned")
    with gated(world) as gate, caplog.at_level(logging.ERROR):
        messages = [*singles(4), poisoned]
        answers = [asyncio.create_task(service.client.score(message)) for message in messages]
        await until(lambda: service.queued == 5)
        gate.opened.set()
        *neighbours, dead = await asyncio.gather(*answers, return_exceptions=True)
    assert all(isinstance(answer, ScoreResponse) for answer in neighbours)
    assert isinstance(dead, grpc.aio.AioRpcError)
    assert (dead.code(), dead.details()) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert INNERMOST in caplog.text
    assert "'request_id': 'poisoned'" in record.getMessage()


@pytest.fixture
def with_loss(world: World) -> Iterator[None]:
    """Make the model return, beside its output, one number for the whole batch."""

    def both(_module: nn.Module, _inputs: object, output: Tensor) -> tuple[Tensor, Tensor]:
        return output, output.mean()

    handle = world.model.module.register_forward_hook(both)
    yield
    handle.remove()


@pytest.mark.usefixtures("with_loss")
async def test_outputs_without_a_batch_axis_are_each_requests_own(
    service: Running, world: World
) -> None:
    outputs = ScoreOptions(include_outputs=True)
    with gated(world) as gate:
        messages = [request(live(2, seed=seed), options=outputs) for seed in range(3)]
        answers = [asyncio.create_task(service.client.score(message)) for message in messages]
        await until(lambda: service.queued == 6)
        gate.opened.set()
        pairs = [answer.outputs for answer in await asyncio.gather(*answers)]
    for output, mean in pairs:
        assert mean.data == raw_bytes(convert.tensor(output).mean())


@pytest.mark.usefixtures("with_loss")
async def test_outputs_without_a_batch_axis_cannot_be_sliced(service: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="send at most 8 inputs a request"):
        await service.client.score(live(9))


async def test_requests_of_callers_who_left_are_not_run(service: Running, world: World) -> None:
    with gated(world) as gate:
        first = asyncio.create_task(service.client.score(live(1)))
        await until(lambda: service.queued == 1)
        leaving = [asyncio.create_task(service.client.score(live(2))) for _ in range(5)]
        await until(lambda: service.queued == 11)
        for caller in leaving:
            caller.cancel()
        await until(lambda: service.queued == 1)
        gate.opened.set()
        await first
        await service.client.score(live(3))
    assert gate.sizes == [1, 3]


async def test_requests_past_their_deadline_are_not_run(service: Running, world: World) -> None:
    with gated(world) as gate:
        first = asyncio.create_task(service.client.score(live(1)))
        await until(lambda: service.queued == 1)
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await service.client.scoring.Score(request(live(2)), timeout=0.1)
        await until(lambda: service.queued == 1)
        gate.opened.set()
        await first
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert gate.sizes == [1]


async def test_overload_is_shed_and_what_was_accepted_is_answered(
    world: World, tmp_path: Path
) -> None:
    limits = replace(LIMITS, max_request_inputs=4, max_queued_inputs=4)
    async with running(world, tmp_path, limits=limits) as service:
        stub: Any = ScoringServiceStub(service.channel)  # retries nothing
        with gated(world) as gate:
            accepted = [asyncio.create_task(service.client.score(live(2))) for _ in range(2)]
            await until(lambda: service.queued == 4)
            with pytest.raises(grpc.aio.AioRpcError) as shed:
                await stub.Score(request(live(1)))
            gate.opened.set()
            answers = await asyncio.gather(*accepted)
        assert shed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "queues at most 4; retry later" in str(shed.value.details())
        assert [len(answer.scores) for answer in answers] == [2, 2]
        assert service.sample("mad_requests_shed_total", model="tiny", reason="queue_full") == 1


async def test_requests_for_two_baselines_keep_their_own(service: Running, world: World) -> None:
    monitors = [
        Monitor.bind(world.model, world.decomposition, numbered(world.baseline, version))
        for version in (1, 2)
    ]
    service.server.registry.swap(monitors, default="tiny")
    wanted = ["tiny@1", "tiny@2"] * 4
    with gated(world) as gate:
        answers = []
        for each in wanted:
            answers.append(asyncio.create_task(service.client.score(live(1), baseline=each)))
            await until(lambda: service.queued == len(answers) and bool(gate.sizes))
        gate.opened.set()
        found = [answer.baseline_revision for answer in await asyncio.gather(*answers)]
    assert found == wanted
    assert gate.sizes == [1, 4, 3]


async def test_a_swap_drops_no_request(service: Running, world: World) -> None:
    monitors = [
        Monitor.bind(world.model, world.decomposition, numbered(world.baseline, version))
        for version in range(1, 21)
    ]
    revisions = set()
    for monitor in monitors:
        service.server.registry.swap([monitor], default="tiny")
        asked = [service.client.score(live(1)) for _ in range(4)]
        revisions |= {answer.baseline_revision for answer in await asyncio.gather(*asked)}
    assert revisions == {f"tiny@{version}" for version in range(1, 21)}
