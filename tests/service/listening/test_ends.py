"""What the server on gRPC's core does about stops, mistakes and what nobody should send."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import pytest

from mad.service.calls import Context
from mad.service.listening.call import CoreCall
from tests.service.listening.serving import (
    UNKNOWN,
    asking,
    composed,
    echo,
    echoes,
    numbered,
    served,
    streaming,
    until_still,
)


async def test_an_error_nobody_foresaw_tells_the_caller_nothing() -> None:
    async def broken(_content: bytes, _call: Context) -> bytes:
        raise ValueError("weights at 0xbeef")

    async with served({"Broken": broken, "Echo": echo}) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asking(channel, "Broken")(b"")
        assert raised.value.code() is grpc.StatusCode.UNKNOWN
        assert raised.value.details() == ""
        assert await asking(channel, "Echo")(b"1") == b"1"


async def test_a_server_that_stops_lets_calls_end() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slow(content: bytes, _call: Context) -> bytes:
        began.set()
        await may_end.wait()
        return content

    async with served({"Slow": slow}) as (server, channel):
        asked = asyncio.ensure_future(asking(channel, "Slow")(b"x"))
        await began.wait()
        stopping = asyncio.create_task(server.stop(30))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        may_end.set()
        assert await asked == b"x"
        await stopping
        assert await server.wait_for_termination(1)


async def test_a_server_that_stops_ends_calls_that_do_not() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless(_content: bytes, _call: Context) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            ended.set()
        raise AssertionError

    async with served({"Endless": endless}) as (server, channel):
        asked = asyncio.ensure_future(asking(channel, "Endless")(b"x"))
        await began.wait()
        await server.stop(0.1)
        assert ended.is_set()
        with pytest.raises(grpc.aio.AioRpcError):
            await asked


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with served() as (server, _):
        port = server.add_insecure_port("127.0.0.1:0")
        with pytest.raises(RuntimeError, match=str(port)):
            server.add_insecure_port(f"127.0.0.1:{port}")


async def test_a_call_without_a_request_is_told_so() -> None:
    async with served({"Echo": echo}) as (_, channel):
        ask: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary("/test/Echo")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(numbered(0))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "send one message" in (raised.value.details() or "")


async def test_a_method_whose_name_is_no_text_harms_nobody() -> None:
    async with served({"Echo": echo}) as (_, channel):
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        ask = channel.unary_unary(b"/test/\xff")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await asking(channel, "Echo")(b"1") == b"1"


async def test_trailers_that_cannot_be_sent_leave_no_caller_waiting() -> None:
    async def refuse(_content: bytes, call: Context) -> bytes:
        await call.abort(grpc.StatusCode.NOT_FOUND, "nothing", (("Not A Key", "x"),))
        raise AssertionError

    async with served({"Refuse": refuse}) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asking(channel, "Refuse")(b"", timeout=30)
    assert raised.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_large_message_waits_alone_for_its_handler() -> None:
    may_read = asyncio.Event()
    sent = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield bytes(90_000)

    async def late(contents: AsyncIterator[bytes], _call: Context) -> None:
        await may_read.wait()
        async for _ in contents:
            pass

    async with served(streams={"Late": late}) as (_, channel):
        answers = streaming(channel, "Late")(large())
        await until_still(lambda: sent)
        # 3 are held here; a few more are on their way.
        assert sent < 20
        may_read.set()
        assert [one async for one in answers] == []
        assert sent == 100


async def test_no_call_stays_in_memory_without_the_collector() -> None:
    async def refuse(_content: bytes, call: Context) -> bytes:
        await call.abort(grpc.StatusCode.NOT_FOUND, "nothing")
        raise AssertionError

    async def endless(contents: AsyncIterator[bytes], call: Context) -> None:
        async for content in contents:
            await call.write(content)
        await asyncio.Event().wait()

    streams = {"Echoes": echoes, "Endless": endless}
    async with served({"Echo": echo, "Refuse": refuse}, streams) as (_, channel):
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await asking(channel, "Echo")(b"x")
                with suppress(grpc.aio.AioRpcError):
                    await asking(channel, "Refuse")(b"x")
                assert len([one async for one in streaming(channel, "Echoes")(numbered(20))]) == 20
                cancelled = streaming(channel, "Endless")(numbered(20))
                await cancelled.read()
                cancelled.cancel()
            until = asyncio.get_running_loop().time() + 30
            while _calls() > 1 and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(0.05)
            assert _calls() <= 1  # the last one may not be over yet
        finally:
            gc.enable()


def _calls() -> int:
    return sum(type(one) is CoreCall for one in gc.get_objects())


async def test_a_server_may_stop_before_it_starts() -> None:
    server = composed({"Echo": echo})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.stop(5)
    other = composed({"Echo": echo})
    assert other.add_insecure_port(f"127.0.0.1:{port}") == port
    await asyncio.gather(other.stop(0), other.stop(None))
    await other.stop(0)


@pytest.mark.parametrize("grace", [0, 30])
async def test_a_stop_amid_calls_leaves_none_without_an_answer(grace: float) -> None:
    async def slow(content: bytes, _call: Context) -> bytes:
        await asyncio.sleep(0.01)
        return content

    for _ in range(5):
        async with served({"Slow": slow}, {"Echoes": echoes}) as (server, channel):
            answered = asyncio.Event()

            async def ask(number: int) -> str:
                try:
                    answer = await asking(channel, "Slow")(b"%d" % number, timeout=30)
                except grpc.aio.AioRpcError as error:
                    return error.code().name
                assert answer == b"%d" % number
                answered.set()  # noqa: B023
                return "OK"

            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask(number)) for number in range(200)]
                await answered.wait()
                await server.stop(grace)
            ends = {one.result() for one in asked}
            assert "OK" in ends
            assert ends <= {"OK", "UNAVAILABLE", "CANCELLED"}


def test_a_program_may_end_without_stopping_its_server() -> None:
    program = (
        "import asyncio; from tests.service.listening.serving import *\n"
        "async def main():\n"
        "    server = composed({'Echo': echo}, {'Echoes': echoes})\n"
        "    port = server.add_insecure_port('127.0.0.1:0')\n"
        "    await server.start()\n"
        "    channel = grpc.aio.insecure_channel(f'127.0.0.1:{port}')\n"
        "    assert await asking(channel, 'Echo')(b'1') == b'1'\n"
        "    call = streaming(channel, 'Echoes')(numbered(3))\n"
        "    assert await call.read() == b'0'\n"
        "asyncio.run(main())\n"
    )
    for _ in range(3):
        ended = subprocess.run(  # our own
            [sys.executable, "-c", program], capture_output=True, check=False, timeout=60
        )
        assert ended.returncode == 0, ended.stderr.decode()


async def test_a_core_that_is_not_known_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with served({"Echo": echo}, version=UNKNOWN) as (server, channel):
        assert isinstance(server, grpc.aio.Server)
        assert await asking(channel, "Echo")(b"1") == b"1"
    assert "install a grpcio between" in caplog.text
