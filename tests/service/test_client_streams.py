"""Streams of scores that outlive servers, and channels that find the server that serves."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from mad.client import SERVICE_CONFIG, AsyncClient, Client, RequestError, request
from mad.errors import InputError
from mad.service.server import Server
from mad.v1 import scoring_pb2 as pb
from tests.service.running import LIMITS, Running, anomalies, build, gated, live, running, until
from tests.worlds import World


@asynccontextmanager
async def replica(world: World, folder: Path) -> AsyncIterator[tuple[Server, int]]:
    """Serve until the test is over, or has drained it."""
    folder.mkdir()
    server = build(world, folder, collectors=CollectorRegistry())
    port = await server.start()
    try:
        yield server, port
    finally:
        await server.drain(lame_duck_s=0, grace_s=1)


def test_the_service_config_ships_as_a_file() -> None:
    file = Path(__file__).parents[2] / "deploy" / "client" / "service_config.json"
    assert json.loads(file.read_text()) == SERVICE_CONFIG


def test_only_what_may_be_sent_twice_is_retried() -> None:
    (config,) = SERVICE_CONFIG["methodConfig"]
    retried = {name["method"] for name in config["name"]}
    assert {"Score", "ScoreStream", "ModelInfer", "ListAlerts", "GetBaseline"} <= retried
    changing = ("Fit", "Promote", "Rollback", "Delete", "Acknowledge", "Reset", "Cancel")
    assert not [method for method in retried if method.startswith(changing)]
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]


async def test_a_target_of_several_addresses_is_shared_and_survives_a_drain(
    world: World, tmp_path: Path
) -> None:
    async with replica(world, tmp_path / "a") as one, replica(world, tmp_path / "b") as two:
        target = f"ipv4:127.0.0.1:{one[1]},127.0.0.1:{two[1]}"
        async with AsyncClient(target) as client, client.open_stream() as stream:
            draining = asyncio.create_task(_drained_later(one[0]))
            answered = 0
            while not draining.done() or answered < 50:
                score = client.score if answered % 2 else stream.score
                answered += len((await score(live(1))).scores)
            await draining


async def _drained_later(server: Server) -> None:
    await asyncio.sleep(0.2)
    await server.drain(lame_duck_s=0.3, grace_s=2)


async def test_a_stream_answers_many_at_once_under_their_own_requests(
    service: Running, world: World
) -> None:
    async with service.client.open_stream(in_flight=8) as stream:
        answers = await asyncio.gather(*(stream.score(live(1, seed=seed)) for seed in range(40)))
    for seed, answer in enumerate(answers):
        (expected,) = world.monitor.judge(live(1, seed=seed)).verdicts
        assert answer.scores[0].verdict.surprise_bits == pytest.approx(
            expected.surprise_bits, rel=1e-4, abs=1e-4
        )


async def test_at_most_so_many_requests_of_a_stream_are_in_flight(
    service: Running, world: World
) -> None:
    with gated(world) as gate:
        async with service.client.open_stream(in_flight=3) as stream:
            asked = [asyncio.create_task(stream.score(live(1))) for _ in range(10)]
            await until(lambda: service.queued == 3)
            await asyncio.sleep(0.1)
            assert service.queued == 3
            gate.opened.set()
            await asyncio.gather(*asked)


async def test_what_was_unanswered_is_sent_again_to_another_server(
    world: World, tmp_path: Path
) -> None:
    names = [f"r{number}" for number in range(5)]
    async with (
        replica(world, tmp_path / "first") as (first, port),
        AsyncClient(f"127.0.0.1:{port}", timeout_s=20) as client,
        client.open_stream() as stream,
    ):
        assert (await stream.score(live(1))).scores
        with gated(world) as gate:
            messages = [request(anomalies(1), request_id=name) for name in names]
            asked = [asyncio.create_task(stream.score(message)) for message in messages]
            await until(lambda: bool(gate.sizes))
            # No grace: the stream dies with all five in hand.
            stopped = asyncio.create_task(first.drain(lame_duck_s=0, grace_s=0))
            gate.opened.set()
            await stopped
        second = build(world, tmp_path / "first", collectors=CollectorRegistry())
        second.address = f"127.0.0.1:{port}"
        await second.start()
        try:
            assert [answer.request_id for answer in await asyncio.gather(*asked)] == names
            listed = (await client.alerts()).alerts
            assert sorted(alert.request_id for alert in listed) == names
        finally:
            await second.drain(lame_duck_s=0, grace_s=1)


async def test_a_bad_request_of_a_stream_is_its_callers_error_alone(service: Running) -> None:
    async with service.client.open_stream() as stream:
        good = asyncio.create_task(stream.score(live(1)))
        with pytest.raises(RequestError, match=r"the model takes \['x'\]") as refused:
            await stream.score({"y": live(1)["x"]})
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await good).scores
        assert (await stream.score(live(1))).scores


async def test_an_overloaded_server_is_asked_again(world: World, tmp_path: Path) -> None:
    limits = replace(LIMITS, max_request_inputs=4, max_queued_inputs=8)
    async with running(world, tmp_path, limits=limits) as service:
        with gated(world) as gate:
            async with service.client.open_stream() as stream:
                asked = [asyncio.create_task(stream.score(live(4))) for _ in range(3)]
                refused = {"model": "tiny", "reason": "queue_full"}
                await until(lambda: service.sample("mad_requests_shed_total", **refused) >= 1)
                gate.opened.set()
                answers = await asyncio.gather(*asked)
    assert [len(answer.scores) for answer in answers] == [4, 4, 4]


async def test_an_answer_that_does_not_come_ends_at_the_deadline(
    service: Running, world: World
) -> None:
    async with AsyncClient(service.address, timeout_s=0.3) as client:
        with gated(world):
            stream = client.open_stream()
            with pytest.raises(RequestError) as late:
                await stream.score(live(1))
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await stream.close()


async def test_two_requests_of_one_id_are_refused(service: Running, world: World) -> None:
    with gated(world) as gate:
        async with service.client.open_stream() as stream:
            first = asyncio.create_task(stream.score(request(live(1), request_id="one")))
            await until(lambda: bool(gate.sizes))
            with pytest.raises(InputError, match="request_id 'one' is under way"):
                await stream.score(request(live(1), request_id="one"))
            gate.opened.set()
            assert (await first).request_id == "one"


async def test_a_server_that_is_not_there_is_told_of_after_some_attempts() -> None:
    async with AsyncClient("127.0.0.1:1", timeout_s=20) as client, client.open_stream() as stream:
        with pytest.raises(RequestError) as gone:
            await stream.score(live(1))
    assert gone.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_closed_stream_takes_no_more(service: Running) -> None:
    stream = service.client.open_stream()
    await stream.close()
    with pytest.raises(RequestError, match="closed"):
        await stream.score(live(1))


async def test_threads_share_one_stream(service: Running) -> None:
    def ask() -> tuple[int, grpc.StatusCode, int]:
        with Client(service.address) as client, client.open_stream(in_flight=4) as stream:
            futures = [stream.submit(request(live(1))) for _ in range(40)]
            answered = sum(len(future.result(20).scores) for future in futures)
            with pytest.raises(RequestError) as refused:
                stream.score({"y": live(1)["x"]})
            return answered, refused.value.code(), len(stream.score(live(2)).scores)

    assert await asyncio.to_thread(ask) == (40, grpc.StatusCode.INVALID_ARGUMENT, 2)


async def test_threads_are_answered_by_another_server_too(world: World, tmp_path: Path) -> None:
    async with replica(world, tmp_path / "a") as one, replica(world, tmp_path / "b") as two:
        target = f"ipv4:127.0.0.1:{one[1]},127.0.0.1:{two[1]}"

        def ask() -> list[pb.ScoreResponse]:
            with Client(target) as client, client.open_stream(in_flight=4) as stream:
                futures = [stream.submit(request(live(1))) for _ in range(100)]
                return [future.result(30) for future in futures]

        asking = asyncio.create_task(asyncio.to_thread(ask))
        await asyncio.sleep(0.1)
        await one[0].drain(lame_duck_s=0, grace_s=2)
        assert len(await asking) == 100


async def test_a_stream_whose_channel_is_gone_says_so(service: Running) -> None:
    async with AsyncClient(service.address, timeout_s=20) as client:
        stream = client.open_stream()
        assert (await stream.score(live(1))).scores
    with pytest.raises(RequestError) as gone:
        await stream.score(live(1))
    assert gone.value.code() is grpc.StatusCode.CANCELLED

    def ask() -> grpc.StatusCode:
        with Client(service.address, timeout_s=20) as client:
            stream = client.open_stream()
            assert stream.score(live(1)).scores
        with pytest.raises(RequestError) as gone:
            stream.score(live(1))
        return gone.value.code()

    assert await asyncio.to_thread(ask) is grpc.StatusCode.CANCELLED
