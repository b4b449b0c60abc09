"""Nothing reaches the model that nobody waits for: expired, cancelled, alone or in company."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from mad.client import request
from mad.v1 import scoring_pb2 as pb
from mad.v1.scoring_pb2_grpc import ScoringServiceStub
from tests.service.running import LIMITS, Running, gated, live, running, until
from tests.worlds import World

CALLERS = 1000
ROOMY = replace(LIMITS, max_queued_inputs=2 * CALLERS)


async def ended(call: Awaitable[object]) -> tuple[str, float]:
    """Return the status a call ends with, and after how many seconds."""
    start = time.monotonic()
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, time.monotonic() - start
    return "OK", time.monotonic() - start


async def test_what_expires_behind_a_second_of_work_is_told_so_and_never_run(
    service: Running, world: World
) -> None:
    stub: Any = ScoringServiceStub(service.channel)
    with gated(world) as gate:
        first = asyncio.create_task(ended(stub.Score(request(live(1)))))
        await until(lambda: gate.sizes == [1])
        one = pb.ExplainRequest(inputs=request(live(1)).inputs)
        scores = [stub.Score(request(live(2)), timeout=0.02) for _ in range(50)]
        explained = [stub.Explain(one, timeout=0.02) for _ in range(5)]
        late = await asyncio.gather(*map(ended, scores + explained))
        patient = asyncio.create_task(ended(stub.Score(request(live(3)))))
        await until(lambda: service.queued == 4)
        gate.opened.set()
        assert (await first)[0] == (await patient)[0] == "OK"
    assert Counter(code for code, _ in late) == {"DEADLINE_EXCEEDED": 55}
    # Each is told after 20 ms; on a busy machine, all of them well before the second is over.
    assert sorted(seconds for _, seconds in late)[len(late) // 2] < 0.5
    assert gate.sizes == [1, 3]


async def test_a_stream_past_its_deadline_has_nothing_run(service: Running, world: World) -> None:
    with gated(world) as gate:
        first = asyncio.create_task(service.client.score(live(1)))
        await until(lambda: gate.sizes == [1])
        call = service.client.scoring.ScoreStream(timeout=0.3)
        for _ in range(20):
            await call.write(pb.ScoreStreamRequest(request=request(live(1))))
        await until(lambda: service.queued == 21)
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: service.queued == 1)
        gate.opened.set()
        await first
        await service.client.score(live(3))
    assert gate.sizes == [1, 3]


async def test_of_a_thousand_cancelled_in_the_queue_hardly_any_is_run(
    world: World, tmp_path: Path
) -> None:
    async with running(world, tmp_path, limits=ROOMY) as service:
        with gated(world) as gate:
            first = asyncio.create_task(service.client.score(live(1)))
            await until(lambda: gate.sizes == [1])
            calls = [service.client.scoring.Score(request(live(1))) for _ in range(CALLERS)]
            await until(lambda: service.queued == CALLERS + 1)
            for call in calls:
                call.cancel()
            # The run under way ends before the server has seen every cancellation.
            await until(lambda: service.queued <= CALLERS // 10)
            gate.opened.set()
            await first
            await until(lambda: service.sample("mad_requests_in_flight", model="tiny") == 0)
        assert service.queued == 0
        assert (await service.client.score(live(1))).scores
    assert sum(gate.sizes) - 1 <= CALLERS // 100
