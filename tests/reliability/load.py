"""Load on a server, from processes of their own, so that it does not wait for who makes it."""

import asyncio
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc

from mad.client import request
from mad.service import process
from mad.v1.scoring_pb2_grpc import ScoringServiceStub
from tests.reliability.processes import FORKS
from tests.service.running import live


@dataclass(frozen=True)
class Outcome:
    """How one call ended, and after how many seconds."""

    code: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """So many calls a second for some seconds, whether or not earlier ones have been answered."""

    address: str
    per_s: float
    seconds: float
    deadline_s: float


def outcomes(plan: OpenLoop) -> list[Outcome]:
    """Put load on a server from another process; return how every call ended."""
    ours, theirs = FORKS.Pipe()
    sender = FORKS.Process(target=_main, args=(plan, theirs), daemon=True)
    sender.start()
    theirs.close()
    try:
        found: list[Outcome] = ours.recv()
        return found
    finally:
        sender.kill()
        sender.join()


def _main(plan: OpenLoop, told: Connection) -> None:
    # A full collection of what is loaded would hold its calls up, and then send them all at once.
    process.keep_loaded()
    told.send(asyncio.run(_open_loop(plan)))


async def _open_loop(plan: OpenLoop) -> list[Outcome]:
    async with grpc.aio.insecure_channel(plan.address) as channel:
        await channel.channel_ready()
        stub: Any = ScoringServiceStub(channel)
        message = request(live(1))
        start = time.monotonic()
        calls = []
        for index in range(int(plan.per_s * plan.seconds)):
            await asyncio.sleep(max(start + index / plan.per_s - time.monotonic(), 0))
            calls.append(asyncio.create_task(_ended(stub.Score(message, timeout=plan.deadline_s))))
        return await asyncio.gather(*calls)


async def _ended(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> Outcome:
    start = time.monotonic()
    code = (await call.code()).name
    return Outcome(code, time.monotonic() - start)
