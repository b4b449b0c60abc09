"""A loop that waits for the core itself while calls come, and leaves it to a thread otherwise."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

from mad.service.listening.loop import CoreLoop
from tests.service.listening.serving import composed, echo, echoes

MANY: Final = 200
PATIENCE_S: Final = 20


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run on the loop that ``mad serve`` runs on."""

    async def patient() -> None:
        await asyncio.wait_for(main(), PATIENCE_S)

    with asyncio.Runner(loop_factory=CoreLoop) as runner:
        runner.run(patient())


@asynccontextmanager
async def served(**handlers: Any) -> AsyncIterator[tuple[grpc.aio.Server, grpc.Channel]]:  # noqa: ANN401
    """Serve handlers to a client that has its own threads, and no part in the loop."""
    server = composed({"Echo": echo, **handlers}, {"Echoes": echoes})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    await server.stop(0)


async def asked(channel: grpc.Channel, content: bytes, method: str = "Echo") -> bytes:
    """Call a method from a thread."""
    call: Any = channel.unary_unary(f"/test/{method}")
    answer: bytes = await asyncio.to_thread(call, content, timeout=PATIENCE_S)
    return answer


def is_waiting() -> bool:
    """Tell whether the running loop waits for the core."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CoreLoop)
    return loop.waits.source is not None


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not holds():
        await asyncio.sleep(0.01)


class Endless:
    """Never answers, and tells other threads when it is called and when it is cancelled."""

    def __init__(self) -> None:
        self.began, self.is_cancelled = threading.Event(), threading.Event()

    async def answer(self, _content: bytes, _call: object) -> bytes:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_cancelled.set()
        raise AssertionError


def test_it_waits_for_the_core_while_calls_come_and_then_no_longer() -> None:
    async def main() -> None:
        async with served() as (_, channel):
            for _ in range(2):
                assert not is_waiting()
                assert await asked(channel, b"a") == b"a"
                await until(is_waiting)
                found = [await asked(channel, b"%d" % one) for one in range(MANY)]
                assert found == [b"%d" % one for one in range(MANY)]
                assert is_waiting()
                await until(lambda: not is_waiting())

    run(main)


def test_other_threads_wake_it() -> None:
    async def by_thread(content: bytes, _call: object) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def work() -> None:
            answer.get_loop().call_soon_threadsafe(answer.set_result, content)

        threading.Thread(target=work).start()
        return await answer

    async def main() -> None:
        async with served(Thread=by_thread) as (_, channel):
            numbers = [b"%d" % one for one in range(MANY)]
            found = await asyncio.gather(*(asked(channel, one, "Thread") for one in numbers))
            assert found == numbers

    run(main)


def test_streams_are_answered_in_order() -> None:
    def numbers() -> Iterator[bytes]:
        yield from (b"%d" % one for one in range(MANY))

    async def main() -> None:
        async with served() as (_, channel):
            call: Any = channel.stream_stream("/test/Echoes")
            streams = [asyncio.to_thread(lambda: list(call(numbers()))) for _ in range(4)]
            for found in await asyncio.gather(*streams):
                assert found == list(numbers())

    run(main)


def test_files_are_waited_for_as_ever() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            async with served() as (_, channel):
                await asked(channel, b"a")
                await until(is_waiting)
                receiving = asyncio.create_task(loop.sock_recv(ours, 10))
                await until(lambda: not is_waiting())
                assert await asked(channel, b"b") == b"b"
                assert not is_waiting()
                theirs.send(b"written")
                assert await receiving == b"written"
                await asked(channel, b"c")
                await until(is_waiting)

    run(main)


def test_signals_come_through_while_it_waits_for_the_core() -> None:
    async def main() -> None:
        caught = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, caught.set)
        async with served() as (_, channel):
            await asked(channel, b"a")
            await until(is_waiting)
            os.kill(os.getpid(), signal.SIGUSR1)
            await caught.wait()

    run(main)


def test_timers_run_while_it_waits_for_the_core() -> None:
    async def late(content: bytes, _call: object) -> bytes:
        await asyncio.sleep(0.01)
        return content

    async def main() -> None:
        async with served(Late=late) as (_, channel):
            for _ in range(10):
                assert await asked(channel, b"a", "Late") == b"a"

    run(main)


def test_a_server_stops_while_its_loop_waits_for_the_core() -> None:
    endless = Endless()

    async def main() -> None:
        async with served(Endless=endless.answer) as (server, channel):
            call: Any = channel.unary_unary("/test/Endless")
            ended = call.future(b"")
            await asyncio.to_thread(endless.began.wait)
            await until(is_waiting)
            await server.stop(0.1)
            assert endless.is_cancelled.is_set()
            assert not is_waiting()
            assert await asyncio.to_thread(ended.code) is not grpc.StatusCode.OK

    run(main)


def test_a_call_that_is_cancelled_ends_its_handler() -> None:
    endless = Endless()

    async def main() -> None:
        async with served(Endless=endless.answer) as (_, channel):
            call: Any = channel.unary_unary("/test/Endless")
            under_way = call.future(b"")
            await asyncio.to_thread(endless.began.wait)
            under_way.cancel()
            await asyncio.to_thread(endless.is_cancelled.wait)

    run(main)
