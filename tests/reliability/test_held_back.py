"""Callers who take much and give little: slow readers, idle streams, bombs; others go on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from mad.client import AsyncClient, request
from mad.v1 import scoring_pb2 as pb
from tests.reliability.processes import MIB, Served, serving
from tests.reliability.serving import Plan
from tests.service.running import LIMITS, live

SLOW_READERS = 4
REQUEST_INPUTS = 2
IDLE_STREAMS = 1000
ATTEMPTS = 12
SCORE = "/mad.v1.ScoringService/Score"
# What gRPC buffers for a caller that does not read; with more, a test would only take longer.
SMALL_WINDOWS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * 1024))
LARGE = Plan(limits=replace(LIMITS, max_message_bytes=16 * MIB))


@asynccontextmanager
async def never_reading(address: str) -> AsyncIterator[None]:
    """Write to streams as fast as they take it, and read no answer."""
    message = pb.ScoreStreamRequest(request=request(live(REQUEST_INPUTS)))

    async def write(client: AsyncClient) -> None:
        call = client.scoring.ScoreStream()
        while True:
            await call.write(message)

    async with grpc.aio.insecure_channel(address, SMALL_WINDOWS) as channel:
        client = AsyncClient(channel)
        tasks = [asyncio.create_task(write(client)) for _ in range(SLOW_READERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def settled(served: Served) -> float:
    """Wait until no more inputs are scored; return how many were."""
    before, now = -1.0, 0.0
    async with asyncio.timeout(90):
        while now != before or not now:
            await asyncio.sleep(1.0)
            before = now
            now = await asyncio.to_thread(served.sample, "mad_inputs_scored_total")
    return now


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_callers_who_do_not_read_are_not_read_from_and_hold_up_nobody(
    tmp_path: Path,
) -> None:
    plan = Plan(limits=replace(LIMITS, max_queued_inputs=65536))
    with serving(tmp_path, plan) as served:
        async with AsyncClient(served.address) as other:
            # What any load of this size leaves behind is no part of the claim.
            busy = [request(live(REQUEST_INPUTS)) for _ in range(1000)]
            assert len([answer async for answer in other.stream(busy)]) == len(busy)
            earlier = await asyncio.to_thread(served.sample, "mad_inputs_scored_total")
            before = served.rss_bytes
            async with never_reading(served.address):
                scored = await settled(served) - earlier
                grown = served.rss_bytes - before
                answers = [await other.score(live(1)) for _ in range(50)]
                after = await asyncio.to_thread(served.sample, "mad_inputs_scored_total")
                waiting = await asyncio.to_thread(served.sample, "mad_queue_depth")
    assert len(answers) == 50
    assert (after - earlier - scored, waiting) == (50, 0)
    in_hand = SLOW_READERS * REQUEST_INPUTS * LIMITS.callers.stream_requests
    assert in_hand <= scored <= 3 * in_hand
    assert grown < 50 * MIB, grown / MIB


async def slowest_s(client: AsyncClient) -> float:
    """Return the 99th percentile of how long a lone input takes, of 600 asked one by one."""
    took = []
    for _ in range(600):
        start = time.perf_counter()
        await client.score(live(1))
        took.append(time.perf_counter() - start)
    return sorted(took)[-6]


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_callers_who_do_not_read_slow_nobody_by_a_fifth(tmp_path: Path) -> None:
    plan = Plan(limits=replace(LIMITS, max_queued_inputs=65536))
    ratios: list[float] = []
    with serving(tmp_path, plan) as served:
        async with AsyncClient(served.address) as other:
            await slowest_s(other)
            # What else the machine does is in either figure; so is what it did to just one of them.
            while len(ratios) < ATTEMPTS and (not ratios or min(ratios) > 1.2):
                alone = await slowest_s(other)
                async with never_reading(served.address):
                    await settled(served)
                    ratios.append(await slowest_s(other) / alone)
    assert min(ratios) <= 1.2, ratios


@pytest.mark.slow
async def test_a_thousand_idle_streams_cost_less_than_a_hundred_megabytes(tmp_path: Path) -> None:
    message = pb.ScoreStreamRequest(request=request(live(1)))
    with serving(tmp_path) as served:
        async with AsyncClient(served.address) as client:
            await client.score(live(1))
            before = served.rss_bytes
            calls = [client.scoring.ScoreStream() for _ in range(IDLE_STREAMS)]
            for call in calls:
                await call.write(message)
                assert await call.read()
            grown = served.rss_bytes - before
            assert (await client.score(live(1))).scores
            for call in calls:
                call.cancel()
    assert grown < 100 * MIB, grown / MIB


async def refused(address: str, size: int, compression: grpc.Compression) -> grpc.StatusCode:
    """Send so many zeros; return the status."""
    async with grpc.aio.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary(SCORE)
        code: grpc.StatusCode = await ask(bytes(size), compression=compression).code()
        return code


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_an_oversized_message_is_refused_in_bounded_memory(
    tmp_path: Path, compression: grpc.Compression
) -> None:
    with serving(tmp_path, LARGE) as served:
        for size in (16 * MIB + 1, 256 * MIB):
            before = served.peak_bytes
            code = await refused(served.address, size, compression)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert served.peak_bytes - before < 3 * 16 * MIB, (served.peak_bytes - before) / MIB
        async with AsyncClient(served.address) as client:
            assert (await client.score(live(1))).scores


async def test_oversized_metadata_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        async with grpc.aio.insecure_channel(served.address) as channel:
            ask: Any = channel.unary_unary(SCORE)
            call = ask(b"", metadata=[("padding", "x" * 100_000)])
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with AsyncClient(served.address) as client:
            assert (await client.score(live(1))).scores
