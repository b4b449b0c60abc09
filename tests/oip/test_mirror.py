"""Mirror mode: what is copied to us is scored and alerted on, and nobody is kept waiting."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from mad.service.oip import inference_pb2 as pb
from mad.service.oip.serving import InferencePlan
from tests.oip.asking import ask, infer, raw
from tests.service.running import LIMITS, Running, anomalies, gated, live, running, until
from tests.worlds import World

PLAN = InferencePlan(mode="mirror", model="resnet_50")


@pytest.fixture
async def mirror(world: World, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(world, tmp_path, inference=PLAN) as service:
        yield service


async def test_a_mirrored_request_is_scored_and_answered_with_nothing(mirror: Running) -> None:
    response = await infer(mirror.channel, raw(anomalies(2), model="resnet_50", request_id="copy"))
    assert response == pb.ModelInferResponse()
    assert [alert.request_id for alert in (await mirror.client.alerts()).alerts] == ["copy"] * 2
    labels = {"model": "tiny", "baseline": "tiny", "traffic": "live"}
    assert mirror.sample("mad_inputs_scored_total", **labels) == 2


async def test_the_model_goes_by_the_name_that_is_mirrored_in_any_version(mirror: Running) -> None:
    for version, is_ready in (("", True), ("7", True)):
        request = pb.ModelReadyRequest(name="resnet_50", version=version)
        answer = await ask(mirror.channel, "ModelReady", request, pb.ModelReadyResponse)
        assert answer.ready is is_ready
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(mirror.channel, raw(live(1)))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_overload_is_shed_without_an_error_and_counted(world: World, tmp_path: Path) -> None:
    limits = replace(LIMITS, max_request_inputs=4, max_queued_inputs=4)
    async with running(world, tmp_path, inference=PLAN, limits=limits) as service:
        with gated(world) as gate:
            waiting = asyncio.create_task(infer(service.channel, raw(live(4), model="resnet_50")))
            await until(lambda: service.queued == 4)
            assert await infer(service.channel, raw(live(3), model="resnet_50")) == (
                pb.ModelInferResponse()
            )
            gate.opened.set()
            await waiting
        unscored = {"model": "tiny", "reason": "overloaded"}
        assert service.sample("mad_unscored_inputs_total", **unscored) == 3
        assert service.sample("mad_requests_shed_total", model="tiny", reason="queue_full") == 1


async def test_what_the_model_does_not_take_is_still_an_error(mirror: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(mirror.channel, raw({"x": live(1)["x"][:, :7]}, model="resnet_50"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
