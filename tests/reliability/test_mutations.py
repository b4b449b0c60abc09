"""A hundred thousand mutated messages: each answer means something, and no memory is kept."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError, Message

from mad.client import request
from mad.service.server import SERVICES
from mad.v1 import scoring_pb2 as pb
from tests.reliability.processes import MIB, Served, serving
from tests.service.running import live

MESSAGES = 100_000
WARM_UP = 20_000
AT_ONCE = 64
PER_STREAM = 50
STREAMED = 0.08
"""Share of turns in which a stream is sent; most messages are streamed then."""
HOT = {"/mad.v1.ScoringService/Score": 80, "/mad.v1.ScoringService/Explain": 10}
"""How much more often than any other method these are called."""
MEANT = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "UNIMPLEMENTED",
}
STREAM = "/mad.v1.ScoringService/ScoreStream"
SCORE = request(live(2), request_id="fuzz", baseline="tiny")
WHOLE: dict[str, Message] = {
    "ScoreRequest": SCORE,
    "ExplainRequest": pb.ExplainRequest(inputs=request(live(1)).inputs, max_charges=3),
}


@dataclass(frozen=True)
class Target:
    """A method, and a message it takes."""

    path: str
    content: bytes


def targets() -> list[Target]:
    """Return every unary method of every service of ours."""
    return [
        Target(f"/{service}/{method.name}", example(method.input_type).SerializeToString())
        for service in SERVICES
        for method in methods(service)
        if not (method.client_streaming or method.server_streaming)
    ]


def methods(service: str) -> list[MethodDescriptor]:
    found: list[MethodDescriptor] = list(Default().FindServiceByName(service).methods)
    return found


def example(kind: Descriptor, depth: int = 0) -> Message:
    """Return a message with something in every field."""
    if kind.name in WHOLE:
        return WHOLE[kind.name]
    message = message_factory.GetMessageClass(kind)()
    for field in kind.fields:
        fill(message, field, depth)
    return message


def fill(message: Message, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None:
        if depth < 2 and not field.is_repeated:
            getattr(message, field.name).CopyFrom(example(field.message_type, depth + 1))
        return
    value = {
        FieldDescriptor.CPPTYPE_STRING: b"tiny" if field.type == field.TYPE_BYTES else "tiny",
        FieldDescriptor.CPPTYPE_BOOL: True,
    }.get(field.cpp_type, 1)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Flip, drop, repeat, insert or cut some bytes."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(changed))
        stop = min(start + chance.randint(0, 8), len(changed))
        changed[start:stop] = chance.choice(
            (
                b"",
                chance.randbytes(chance.randint(1, 8)),
                changed[start:stop] * 2,
                bytes(byte ^ (1 << chance.randint(0, 7)) for byte in changed[start:stop]),
            )
        )
    return bytes(changed[: chance.randint(0, len(changed))] if chance.random() < 0.1 else changed)


def contents(target: Target, count: int, chance: random.Random) -> Iterator[bytes]:
    while count:
        content = mutated(target.content, chance)
        # What is no message ends its stream, and what is sent after it tells nothing.
        if target.path != STREAM or is_message(content):
            count -= 1
            yield content


def is_message(content: bytes) -> bool:
    try:
        pb.ScoreStreamRequest.FromString(content)
    except DecodeError:
        return False
    return True


async def unary(channel: grpc.aio.Channel, target: Target, content: bytes) -> str:
    ask: Any = channel.unary_unary(target.path)
    code: grpc.StatusCode = await ask(content).code()
    return code.name


async def stream(channel: grpc.aio.Channel, sent: list[bytes]) -> str:
    """Send messages over one stream; return the first status that is no caller's mistake."""
    ask: Any = channel.stream_stream(STREAM)
    call = ask(iter(sent))
    try:
        async for content in call:
            error = pb.ScoreStreamResponse.FromString(content).error.code
            name = next(code.name for code in grpc.StatusCode if code.value[0] == error)
            if name not in MEANT:
                return name
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def driven(address: str, count: int, chance: random.Random) -> Counter[str]:
    """Send so many mutated messages, many at once; count the statuses."""
    ends: Counter[str] = Counter()
    room = asyncio.Semaphore(AT_ONCE)
    methods = targets()
    weights = [HOT.get(target.path, 1) for target in methods]

    async def one(ask: Callable[[], Any], method: str) -> None:
        try:
            code = await ask()
            ends[code if code in MEANT else f"{method} {code}"] += 1
        finally:
            room.release()

    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as tasks:
        streamed = Target(STREAM, pb.ScoreStreamRequest(request=SCORE).SerializeToString())
        sent = 0
        while sent < count:
            await room.acquire()
            if chance.random() < STREAMED:
                many = list(contents(streamed, PER_STREAM, chance))
                tasks.create_task(one(partial(stream, channel, many), STREAM))
                sent += PER_STREAM
            else:
                (target,) = chance.choices(methods, weights)
                (single,) = contents(target, 1, chance)
                tasks.create_task(one(partial(unary, channel, target, single), target.path))
                sent += 1
    return ends


def drive(served: Served, count: int, seed: int) -> Counter[str]:
    return asyncio.run(driven(served.address, count, random.Random(seed)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_mutated_messages_have_meaningful_answers_and_leave_nothing(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as served:
        ends = drive(served, WARM_UP, 0)
        before = served.rss_bytes
        ends += drive(served, MESSAGES - WARM_UP, 1)
        grown = served.rss_bytes - before
        wrong = [
            served.sample("grpc_server_handled_total", grpc_code=code)
            for code in ("UNKNOWN", "INTERNAL")
        ]
        assert served.process.exitcode is None
    assert ends.keys() <= MEANT, ends
    assert wrong == [0, 0]
    assert grown < 30 * MIB, grown / MIB
