"""ScoreStream: many requests in hand, errors one by one, and an end that answers everything."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import grpc
import pytest
import torch

from mad.client import request
from mad.v1 import scoring_pb2 as pb
from tests.same import same
from tests.service.running import LIMITS, POISON, Running, anomalies, gated, live, until
from tests.worlds import World


async def test_a_stream_answers_each_request_under_its_id(service: Running) -> None:
    messages = {str(seed): request(live(2, seed=seed), request_id=str(seed)) for seed in range(50)}
    answers = [answer async for answer in service.client.stream(messages.values())]
    assert {answer.request_id for answer in answers} == set(messages)
    for answer in answers:
        monitor = service.server.registry.resolve("")
        expected = monitor.judge(live(2, seed=int(answer.request_id))).verdicts
        assert [score.verdict.surprise_bits for score in answer.response.scores] == same(
            [verdict.surprise_bits for verdict in expected]
        )


async def test_a_bad_request_gets_its_error_and_ends_nothing(service: Running) -> None:
    messages = [
        request(live(1), request_id="good"),
        request({"y": live(1)["x"]}, request_id="misnamed"),
        request(live(1), request_id="unknown", baseline="other"),
        request({"x": torch.full((1, 8), POISON)}, request_id="fine"),
        pb.ScoreRequest(),
    ]
    answers = {answer.request_id: answer async for answer in service.client.stream(messages)}
    codes = {name: answer.error.code for name, answer in answers.items()}
    assert codes == {
        "good": 0,
        "misnamed": grpc.StatusCode.INVALID_ARGUMENT.value[0],
        "unknown": grpc.StatusCode.NOT_FOUND.value[0],
        "fine": 0,
        "": grpc.StatusCode.INVALID_ARGUMENT.value[0],
    }
    assert "the model takes ['x']" in answers["misnamed"].error.message


async def test_alerts_of_a_stream_are_in_the_log(service: Running) -> None:
    messages = [request(anomalies(1, seed=seed)) for seed in range(10)]
    answers = [answer async for answer in service.client.stream(messages)]
    told = {answer.response.scores[0].alert_id for answer in answers}
    assert told == {alert.alert_id for alert in (await service.client.alerts()).alerts}


async def test_a_stream_has_bounded_requests_in_hand(service: Running, world: World) -> None:
    async def endless() -> AsyncIterator[pb.ScoreRequest]:
        while True:
            yield request(live(1))

    with gated(world):
        answers = service.client.stream(endless())
        reading = asyncio.ensure_future(anext(answers))
        await until(lambda: service.queued == LIMITS.callers.stream_requests)
        await asyncio.sleep(0.05)
        assert service.queued == LIMITS.callers.stream_requests
        reading.cancel()
        await until(lambda: service.queued == 0)
    assert (await service.client.score(live(1))).scores


async def test_undecodable_bytes_end_only_their_stream(service: Running) -> None:
    method = "/mad.v1.ScoringService/ScoreStream"
    call: grpc.aio.StreamStreamCall[bytes, bytes] = service.channel.stream_stream(method)()
    await call.write(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await service.client.score(live(1))).scores


async def test_a_draining_server_ends_a_stream_whose_caller_sends_on(service: Running) -> None:
    async def endless() -> AsyncIterator[pb.ScoreRequest]:
        while True:
            yield request(live(1))
            await asyncio.sleep(0.001)

    async def listen() -> None:
        async for answer in service.client.stream(endless()):
            answered.set()
            codes.add(answer.error.code)

    answered = asyncio.Event()
    codes: set[int] = set()
    listening = asyncio.create_task(listen())
    await answered.wait()
    async with asyncio.timeout(5):
        await service.server.drain(lame_duck_s=0, grace_s=30)
    with pytest.raises(grpc.aio.AioRpcError, match="open the stream to another replica") as ended:
        await listening
    unavailable = grpc.StatusCode.UNAVAILABLE
    assert ended.value.code() is unavailable
    assert codes == {0, unavailable.value[0]}


async def test_a_draining_server_answers_what_is_in_hand_and_ends_the_stream(
    service: Running, world: World
) -> None:
    call = service.client.scoring.ScoreStream()
    with gated(world) as gate:
        for seed in range(5):
            message = request(live(1, seed=seed), request_id=str(seed))
            await call.write(pb.ScoreStreamRequest(request=message))
        await until(lambda: service.queued == 5)
        draining = asyncio.create_task(service.server.drain(lame_duck_s=0, grace_s=10))
        await asyncio.sleep(0.1)
        gate.opened.set()
        answers = [cast("pb.ScoreStreamResponse", await call.read()) for _ in range(5)]
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        await draining
    assert {answer.request_id for answer in answers} == set("01234")
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
