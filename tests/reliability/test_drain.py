"""Replicas are replaced one after the other, under load, and nobody notices."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mad.client import SERVICE_CONFIG, AsyncClient, request
from mad.v1 import alerts_pb2
from mad.v1.scoring_pb2_grpc import ScoringServiceStub
from tests.reliability.ports import free_ports
from tests.reliability.processes import Served, serving
from tests.reliability.serving import Plan
from tests.service.running import live

CALLERS = 6
PATIENCE_S = 30.0
# Longer than the default, as deployments have it: a busy machine tells clients late.
LAME_DUCK_S = 1.0
# A test waits for replicas to come back; what a client does meanwhile is what it always does.
EAGER = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
ONLY_RETRIES = {"methodConfig": SERVICE_CONFIG["methodConfig"]}


@asynccontextmanager
async def callers(ask: Callable[[], Any]) -> AsyncIterator[Counter[str]]:
    """Ask again and again, several at a time; count how calls end."""
    ends: Counter[str] = Counter()
    stop = asyncio.Event()

    async def caller() -> None:
        while not stop.is_set():
            try:
                await ask()
                ends["OK"] += 1
            except grpc.aio.AioRpcError as error:
                ends[f"{error.code().name} {error.details()}"] += 1

    tasks = [asyncio.create_task(caller()) for _ in range(CALLERS)]
    try:
        yield ends
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def replaced(
    replicas: ExitStack, served: Served, directory: Path, plan: Plan
) -> tuple[Served, int | None]:
    """Drain a server and start another in its place, without holding up those who ask."""
    served.terminate()
    code = await asyncio.to_thread(served.exit_code, plan.lame_duck_s + plan.grace_s)
    return await asyncio.to_thread(replicas.enter_context, serving(directory, plan)), code


async def found(served: Served) -> None:
    """Wait until those who ask have come to a new server, as whoever replaces the next one does."""
    asked = {"grpc_method": "Score", "grpc_code": "OK"}
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(served.sample, "grpc_server_handled_total", **asked):
            await asyncio.sleep(0.1)


async def drained(
    directory: Path,
    channel: grpc.aio.Channel,
    ask: Callable[[], Any],
    ports: list[int],
    times: int,
    *,
    in_turn: bool,
) -> tuple[Counter[str], set[int | None]]:
    """Replace two replicas in turn; return how calls ended, and how the servers.

    Callers who go to replicas ``in_turn`` come to a new one by themselves.
    """
    plans = [Plan(port=port, lame_duck_s=LAME_DUCK_S) for port in ports]
    places = [directory / str(port) for port in ports]
    codes: set[int | None] = set()
    with ExitStack() as replicas:
        running = [
            await asyncio.to_thread(replicas.enter_context, serving(place, plan))
            for place, plan in zip(places, plans, strict=True)
        ]
        await channel.channel_ready()
        async with callers(ask) as ends:
            for turn in range(times):
                which = turn % 2
                running[which], code = await replaced(
                    replicas, running[which], places[which], plans[which]
                )
                codes.add(code)
                if in_turn:
                    await found(running[which])
                else:
                    await asyncio.sleep(0.5)  # longer than any client waits to connect again
    return ends, codes


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_twenty_drains_lose_no_call_of_a_client_that_watches_health(tmp_path: Path) -> None:
    ports = free_ports(2)
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    options = (("grpc.service_config", json.dumps(SERVICE_CONFIG)), *EAGER)
    async with grpc.aio.insecure_channel(target, options) as channel:
        client = AsyncClient(channel)
        ends, codes = await drained(
            tmp_path, channel, lambda: client.score(live(1)), ports, 20, in_turn=True
        )
    assert ends.keys() == {"OK"}, ends
    assert ends["OK"] > 20 * CALLERS
    assert codes == {0}


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_drains_lose_hardly_a_call_of_a_client_that_only_retries(tmp_path: Path) -> None:
    ports = free_ports(2)
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    options = (("grpc.service_config", json.dumps(ONLY_RETRIES)), *EAGER)
    message = request(live(1))
    async with grpc.aio.insecure_channel(target, options) as channel:
        stub: Any = ScoringServiceStub(channel)
        ends, _ = await drained(
            tmp_path, channel, lambda: stub.Score(message), ports, 6, in_turn=False
        )
    failed = ends.total() - ends["OK"]
    assert failed <= 0.005 * ends.total(), ends


@pytest.mark.slow
async def test_idle_streams_and_watchers_hold_up_no_drain(tmp_path: Path) -> None:
    with serving(tmp_path, Plan(lame_duck_s=0.0, grace_s=60.0)) as served:
        async with AsyncClient(served.address) as client:
            stream = client.scoring.ScoreStream()
            await stream.wait_for_connection()
            watch = client.alert.WatchAlerts(alerts_pb2.WatchAlertsRequest())
            await watch.wait_for_connection()
            served.terminate()
            assert await asyncio.to_thread(served.exit_code, 30) == 0
            assert await stream.code() is grpc.StatusCode.UNAVAILABLE
            # A sign of life may have come first.
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                _ = [answer async for answer in watch]
