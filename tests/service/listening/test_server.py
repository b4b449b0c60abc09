"""The server on gRPC's core answers as grpc.aio's does, asked by gRPC's own client."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from mad.service.calls import Context
from tests.service.listening.serving import (
    CORE,
    LARGEST,
    UNKNOWN,
    asking,
    echo,
    echoes,
    numbered,
    served,
    streaming,
    until_still,
)

pytestmark = pytest.mark.parametrize("version", [CORE, UNKNOWN], ids=["core", "aio"])


async def test_an_answer_is_of_its_own_request(version: str) -> None:
    async with served({"Echo": echo}, version=version) as (_, channel):
        ask = asking(channel, "Echo")
        wanted = [b"%d" % number for number in range(200)]
        assert await asyncio.gather(*map(ask, wanted)) == wanted


async def test_a_stream_keeps_its_order_and_ends(version: str) -> None:
    async with served(streams={"Echoes": echoes}, version=version) as (_, channel):
        answers = streaming(channel, "Echoes")(numbered(1000))
        assert [one async for one in answers] == [b"%d" % number for number in range(1000)]
        assert await answers.code() is grpc.StatusCode.OK


async def test_a_stream_of_nothing_ends_well(version: str) -> None:
    async with served(streams={"Echoes": echoes}, version=version) as (_, channel):
        assert [one async for one in streaming(channel, "Echoes")(numbered(0))] == []


async def test_a_caller_that_takes_no_answers_is_not_read_from_for_ever(version: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(60_000)

    async with served(streams={"Echoes": echoes}, version=version) as (_, channel):
        answers = streaming(channel, "Echoes")(endless())
        assert await answers.read() == bytes(60_000)
        await until_still(lambda: sent)
        assert sent < 1000
        answers.cancel()


@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_a_call_that_ends_early_ends_its_handler(how: str, version: str) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless(_content: bytes, call: Context) -> bytes:
        began.set()
        left = call.time_remaining()
        assert (left is None) == (how == "cancelled")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with served({"Endless": endless}, version=version) as (_, channel):
        asked = asking(channel, "Endless")(b"", timeout=0.5 if how == "late" else None)
        await began.wait()
        if how == "cancelled":
            asked.cancel()
        await asyncio.wait_for(ended.wait(), 30)
        wanted = "CANCELLED" if how == "cancelled" else "DEADLINE_EXCEEDED"
        assert (await asked.code()).name == wanted


async def test_an_aborted_call_has_its_status_and_trailers(version: str) -> None:
    async def refuse(_content: bytes, call: Context) -> bytes:
        await call.abort(
            grpc.StatusCode.NOT_FOUND, "no such thing: \u00fc", (("why-bin", b"\x00"),)
        )
        raise AssertionError

    async with served({"Refuse": refuse}, version=version) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asking(channel, "Refuse")(b"")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == "no such thing: \u00fc"
    assert ("why-bin", b"\x00") in list(raised.value.trailing_metadata())


async def test_a_stream_may_end_in_an_error_after_answers(version: str) -> None:
    async def one_and_no_more(contents: AsyncIterator[bytes], call: Context) -> None:
        async for content in contents:
            await call.write(content)
            await call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "one is enough")

    async with served(streams={"One": one_and_no_more}, version=version) as (_, channel):
        answers = streaming(channel, "One")(numbered(1))
        assert await answers.read() == b"0"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await answers.read()
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_method_there_is_not_is_unimplemented(version: str) -> None:
    async with served(version=version) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asking(channel, "Nothing")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_that_is_too_large_never_reaches_a_handler(version: str) -> None:
    async with served({"Echo": echo}, version=version) as (_, channel):
        ask = asking(channel, "Echo")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(bytes(LARGEST + 1))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(await ask(bytes(LARGEST))) == LARGEST


async def test_what_the_caller_sends_beside_is_there(version: str) -> None:
    async def told(_content: bytes, call: Context) -> bytes:
        sent = dict(call.invocation_metadata() or ())
        assert call.peer().startswith("ipv4:127.0.0.1:")
        return str(sent["token"]).encode()

    async with served({"Told": told}, version=version) as (_, channel):
        assert await asking(channel, "Told")(b"", metadata=(("token", "t"),)) == b"t"
