"""A proxy keeps no answer back for want of a score, and is ready when its upstream server is."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mad.service.oip import inference_pb2 as pb
from mad.service.oip.serving import InferencePlan
from mad.service.oip.upstream import UpstreamPlan
from tests.oip.asking import ask, infer, output, raw
from tests.oip.upstreams import Other, serving
from tests.service.running import LIMITS, POISON, Running, anomalies, gated, live, running, until
from tests.worlds import World

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
async def other() -> AsyncIterator[Other]:
    async with serving(Other()) as other:
        yield other


def plan(other: Other, *, patience_s: float = 20.0, output: str = "logits") -> InferencePlan:
    upstream = UpstreamPlan(
        address=other.address, outputs=(output,), poll_s=0.05, patience_s=patience_s
    )
    return InferencePlan(mode="proxy", model="net", upstream=upstream)


def unscored(service: Running, reason: str) -> float:
    return service.sample("mad_unscored_inputs_total", model="tiny", reason=reason)


def check_unscored(response: pb.ModelInferResponse, reason: str) -> None:
    assert [each.name for each in response.outputs] == ["logits"]
    assert len(response.raw_output_contents) == 1
    assert response.parameters["mad.unscored"].string_param == reason
    assert "mad.alert" not in response.parameters


async def test_inputs_that_only_the_upstream_server_takes_go_unscored(
    world: World, other: Other, tmp_path: Path
) -> None:
    inputs = live(3)
    inputs["x"][1, 1] = math.nan
    async with running(world, tmp_path, inference=plan(other)) as service:
        check_unscored(await infer(service.channel, raw(inputs, model="net")), "refused")
        assert unscored(service, "refused") == 3
        assert service.sample("mad_invalid_inputs_total", model="tiny", reason="input") == 1


async def test_a_score_that_fails_costs_no_answer(
    world: World, other: Other, tmp_path: Path
) -> None:
    inputs = live(1)
    inputs["x"][0, 0] = POISON
    async with running(world, tmp_path, inference=plan(other)) as service:
        with gated(world) as gate:
            gate.opened.set()
            check_unscored(await infer(service.channel, raw(inputs, model="net")), "failed")
        assert unscored(service, "failed") == 1


async def test_an_overloaded_scorer_costs_no_answer(
    world: World, other: Other, tmp_path: Path
) -> None:
    limits = replace(LIMITS, max_request_inputs=4, max_queued_inputs=4)
    async with running(world, tmp_path, inference=plan(other), limits=limits) as service:
        with gated(world) as gate:
            first = asyncio.create_task(infer(service.channel, raw(live(4), model="net")))
            await until(lambda: service.queued == 4)
            check_unscored(await infer(service.channel, raw(live(2), model="net")), "overloaded")
            gate.opened.set()
            assert len((await first).outputs) == 6
        assert unscored(service, "overloaded") == 2


async def test_a_late_score_still_raises_its_alert(
    world: World, other: Other, tmp_path: Path
) -> None:
    async with running(world, tmp_path, inference=plan(other, patience_s=0.01)) as service:
        with gated(world) as gate:
            request = raw(anomalies(2), model="net", request_id="late")
            check_unscored(await infer(service.channel, request), "late")
            assert unscored(service, "late") == 2
            gate.opened.set()
            labels = {"model": "tiny", "baseline": "tiny"}
            await until(lambda: service.sample("mad_alerts_total", **labels) == 2)
        alerts = (await service.client.alerts()).alerts
        assert [alert.request_id for alert in alerts] == ["late"] * 2


async def test_a_caller_in_a_hurry_is_answered_before_its_deadline(
    world: World, other: Other, tmp_path: Path
) -> None:
    async with running(world, tmp_path, inference=plan(other)) as service:
        with gated(world):
            call = service.channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            response = await call(raw(live(1), model="net"), timeout=2)
            check_unscored(response, "late")


async def test_scores_that_do_not_fit_into_the_answer_are_left_out(
    world: World, other: Other, tmp_path: Path
) -> None:
    request = raw(live(40), model="net")
    async with grpc.aio.insecure_channel(other.address) as channel:
        size = (await infer(channel, raw(live(40), "logits", model="net"))).ByteSize()
    limits = replace(LIMITS, max_message_bytes=max(size + 100, request.ByteSize() + 100))
    async with running(world, tmp_path, inference=plan(other), limits=limits) as service:
        check_unscored(await infer(service.channel, request), "refused")
        assert unscored(service, "refused") == 40


async def health(service: Running, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(service.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    status: int = answer.status
    return status


async def is_ready(service: Running) -> bool:
    ready = await ask(service.channel, "ServerReady", b"", pb.ServerReadyResponse)
    model = pb.ModelReadyRequest(name="net")
    model_ready = await ask(service.channel, "ModelReady", model, pb.ModelReadyResponse)
    statuses = {await health(service, name) for name in ("", "inference.GRPCInferenceService")}
    claims = {ready.ready, model_ready.ready, statuses == {SERVING}}
    assert len(claims) == 1
    return claims.pop()


async def test_it_is_ready_when_the_upstream_server_is(
    world: World, other: Other, tmp_path: Path
) -> None:
    async with running(world, tmp_path, inference=plan(other)) as service:
        assert await is_ready(service)
        other.is_ready = False
        await until(lambda: not service.server.is_ready)
        await asyncio.sleep(0.05)
        assert not await is_ready(service)
        other.is_ready = True
        await until(lambda: service.server.is_ready)
        await asyncio.sleep(0.05)
        assert await is_ready(service)


async def test_an_upstream_server_may_start_later(world: World, tmp_path: Path) -> None:
    async with serving(Other()) as first:
        port = int(first.address.rpartition(":")[2])
    async with running(world, tmp_path, inference=plan(first)) as service:
        assert not service.server.is_ready
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await infer(service.channel, raw(live(1), model="net"))
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        async with serving(Other(), port=port):
            await until(lambda: service.server.is_ready)
            response = await infer(service.channel, raw(anomalies(1), model="net"))
            assert output(response, "mad.is_alert").tolist() == [True]


async def test_an_upstream_model_without_the_outputs_is_not_ready(
    world: World, other: Other, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(world, tmp_path, inference=plan(other, output="nope")) as service:
        assert not service.server.is_ready
    assert "has no output 'nope'; it has logits, layer_one, layer_three" in caplog.text
