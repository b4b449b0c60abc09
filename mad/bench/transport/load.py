"""A load generator in a process of its own: one request again and again, so many at a time.

Run as ``python -m mad.bench.transport.load TARGET``. It reads one line of JSON from its input, the
plan; answers a warm-up, prints ``ready``, waits for a line, sends, and prints what it saw as one
line of JSON. Requests are bytes that were encoded before, and answers are not read, so that the
same client costs every server the same.
"""

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, final

import grpc

from mad.bench.transport.wire import METHOD, STREAM_METHOD

_OPTIONS = (("grpc.max_receive_message_length", 64 * 1024 * 1024),)


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send: a request in base 64, over one connection, by calls or over streams."""

    request: str
    calls: int
    at_once: int
    is_stream: bool
    warm_up: int = 200


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the client saw; times are of the wall, in seconds."""

    calls: int
    seconds: float
    median_s: float
    p99_s: float


async def unary(channel: grpc.aio.Channel, request: bytes, calls: int, at_once: int) -> list[float]:
    """Make calls, ``at_once`` of them under way at any time, and return how long each took."""
    ask: Any = channel.unary_unary(METHOD)
    left = iter(range(calls))
    times: list[float] = []

    async def caller() -> None:
        for _ in left:
            start = time.perf_counter()
            await ask(request)
            times.append(time.perf_counter() - start)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return times


async def streamed(
    channel: grpc.aio.Channel, request: bytes, calls: int, at_once: int
) -> list[float]:
    """Send messages over one stream, at most ``at_once`` unanswered, and return their times."""
    open_stream: Any = channel.stream_stream(STREAM_METHOD)
    room = asyncio.Semaphore(at_once)
    sent: list[float] = []
    times: list[float] = []

    async def messages() -> AsyncIterator[bytes]:
        for _ in range(calls):
            await room.acquire()
            sent.append(time.perf_counter())
            yield request

    async for _ in open_stream(messages()):
        # Answers to equal requests need no matching: the n-th answer ends the n-th wait.
        times.append(time.perf_counter() - sent[len(times)])
        room.release()
    return times


async def run(target: str) -> None:
    """Follow one plan."""
    plan = Plan(**json.loads(await asyncio.to_thread(sys.stdin.readline)))
    request = base64.b64decode(plan.request)
    send = streamed if plan.is_stream else unary
    async with grpc.aio.insecure_channel(target, _OPTIONS) as channel:
        await send(channel, request, plan.warm_up, plan.at_once)
        _say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        start = time.perf_counter()
        times = sorted(await send(channel, request, plan.calls, plan.at_once))
        seconds = time.perf_counter() - start
    seen = Seen(
        calls=len(times),
        seconds=seconds,
        median_s=times[len(times) // 2],
        p99_s=times[len(times) * 99 // 100],
    )
    _say(json.dumps(asdict(seen)))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
