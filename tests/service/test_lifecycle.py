"""A server's life: it serves once it is warm, says who it is, and leaves without losing a call."""

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client import CollectorRegistry
from torch import Tensor, nn

from mad.client import AsyncClient
from mad.errors import ConfigError
from mad.service.oip.serving import InferencePlan
from mad.service.server import SERVICES
from mad.v1 import alerts_pb2
from mad.v1.alerts_pb2_grpc import AlertServiceStub
from tests.service.running import LIMITS, Running, build, gated, live, running
from tests.worlds import World, own_world

INFERENCE = {"inference.GRPCInferenceService"}
EXTERNAL = "envoy.service.ext_proc.v3.ExternalProcessor"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(channel: grpc.aio.Channel, name: str) -> int:
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=name)
    )
    return int(answer.status)


@pytest.mark.parametrize("name", ["", *SERVICES])
async def test_a_started_server_reports_itself_healthy(service: Running, name: str) -> None:
    assert await health(service.channel, name) == SERVING


async def test_the_health_of_an_unknown_service_is_not_found(service: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await health(service.channel, "mad.v1.Nonsense")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_server_is_not_healthy_before_every_model_ran_once(
    world: World, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = build(world, tmp_path, collectors=CollectorRegistry())
    server.address = address
    with gated(world) as gate:
        starting = asyncio.create_task(server.start())
        async with grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
            assert await health(channel, "") == NOT_SERVING
            gate.opened.set()
            await starting
            assert await health(channel, "") == SERVING
    await server.drain(lame_duck_s=0, grace_s=0)


async def test_a_taken_port_is_named(service: Running, world: World, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = build(world, tmp_path / "second", collectors=CollectorRegistry())
    second.address = service.address
    with pytest.raises(ConfigError, match=f"cannot listen on {service.address}: the port is taken"):
        await second.start()


async def test_a_model_that_cannot_run_is_named_before_anything_is_served(
    world: World, tmp_path: Path
) -> None:
    def broken(_module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        raise RuntimeError("out of cheese")

    handle = world.model.module.register_forward_pre_hook(broken)
    try:
        with pytest.raises(ConfigError, match=r"model of tiny@1 fails on zeros .* out of cheese"):
            await build(world, tmp_path, collectors=CollectorRegistry()).start()
    finally:
        handle.remove()


def test_a_request_must_fit_the_queue(world: World, tmp_path: Path) -> None:
    limits = replace(LIMITS, max_queued_inputs=LIMITS.max_request_inputs - 1)
    with pytest.raises(ConfigError, match="max_request_inputs 64 exceeds max_queued_inputs 63"):
        build(world, tmp_path, collectors=CollectorRegistry(), limits=limits)


async def test_a_reflection_client_finds_every_service_and_its_methods(service: Running) -> None:
    def look() -> tuple[set[str], set[str]]:
        with grpc.insecure_channel(service.address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            scoring = DescriptorPool(database).FindServiceByName("mad.v1.ScoringService")
            return set(database.get_services()), set(scoring.methods_by_name)

    services, methods = await asyncio.to_thread(look)
    assert services == {*SERVICES, *INFERENCE, "grpc.health.v1.Health", REFLECTION}
    assert methods == {"Score", "ScoreStream", "Explain"}


async def test_a_reflection_client_finds_messages_of_other_protocols(
    world: World, tmp_path: Path
) -> None:
    plan = InferencePlan(reaction="tell")
    server = build(world, tmp_path, collectors=CollectorRegistry(), inference=plan)
    address = f"127.0.0.1:{await server.start()}"

    def look() -> tuple[list[str], list[str]]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            # A pool of its own, as a client has that knows neither protocol.
            pool = DescriptorPool(database)
            request = pool.FindMessageTypeByName("inference.ModelInferRequest")
            process = pool.FindServiceByName(EXTERNAL).methods_by_name["Process"]
            with pytest.raises(KeyError):
                pool.FindMessageTypeByName("inference.NoSuchMessage")
            assert {*INFERENCE, EXTERNAL} <= set(database.get_services())
            return list(request.fields_by_name)[:3], [process.input_type.name]

    fields, inputs = await asyncio.to_thread(look)
    await server.drain(lame_duck_s=0, grace_s=0)
    assert fields == ["model_name", "model_version", "id"]
    assert inputs == ["ProcessingRequest"]


async def test_reflection_can_be_switched_off(world: World, tmp_path: Path) -> None:
    server = build(world, tmp_path, collectors=CollectorRegistry())
    server.has_reflection = False
    address = f"127.0.0.1:{await server.start()}"

    def look() -> None:
        with grpc.insecure_channel(address) as channel:
            ProtoReflectionDescriptorDatabase(channel).get_services()

    with pytest.raises(grpc.RpcError) as refused:
        await asyncio.to_thread(look)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.drain(lame_duck_s=0, grace_s=0)


async def test_a_draining_server_says_so_and_answers_in_its_lame_duck_time(
    service: Running,
) -> None:
    draining = asyncio.create_task(service.server.drain(lame_duck_s=0.5, grace_s=5))
    await asyncio.sleep(0.05)
    assert await health(service.channel, "") == NOT_SERVING
    late = AlertServiceStub(service.channel)  # watches no health
    call: Any = late.ListAlerts(alerts_pb2.ListAlertsRequest())
    assert not (await call).alerts
    await draining


async def test_a_drain_waits_for_the_call_under_way(service: Running, world: World) -> None:
    with gated(world) as gate:
        answer = asyncio.create_task(service.client.score(live(1)))
        while service.queued == 0:
            await asyncio.sleep(0.001)
        draining = asyncio.create_task(service.server.drain(lame_duck_s=0, grace_s=10))
        await asyncio.sleep(0.1)
        gate.opened.set()
        assert (await answer).scores
        await draining


async def test_an_idle_client_that_watches_health_does_not_hold_up_a_drain(
    service: Running,
) -> None:
    await service.client.score(live(1))
    start = time.monotonic()
    await service.server.drain(lame_duck_s=0.2, grace_s=10)
    assert time.monotonic() - start < 5


@pytest.mark.alone
@pytest.mark.slow
async def test_a_drain_under_load_loses_no_call(world: World, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    other = own_world()  # two servers of one process must not run one module at once
    async with running(world, tmp_path / "a") as first, running(other, tmp_path / "b") as second:
        target = f"ipv4:{first.address},{second.address}"
        async with AsyncClient(target) as client:
            stop = asyncio.Event()

            async def caller() -> int:
                count = 0
                while not stop.is_set():
                    count += len((await client.score(live(1))).scores)
                return count

            callers = [asyncio.create_task(caller()) for _ in range(8)]
            await asyncio.sleep(0.5)
            await first.server.drain(lame_duck_s=0.3, grace_s=5)
            await asyncio.sleep(0.3)
            stop.set()
            counts = await asyncio.gather(*callers)
    assert min(counts) > 0
