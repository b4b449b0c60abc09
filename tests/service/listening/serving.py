"""A server of plain handlers, on gRPC's core or on grpc.aio, and a channel to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import grpc

from mad.service.listening.listener import listener

Unary: TypeAlias = Callable[[bytes, Any], Awaitable[bytes]]
Streaming: TypeAlias = Callable[[AsyncIterator[bytes], Any], Awaitable[None]]

LARGEST: Final = 100_000
CORE: Final = grpc.__version__
STEADY: Final = (("grpc.http2.bdp_probe", 0),)
"""Windows of HTTP/2 that do not grow, so that little is on its way."""
UNKNOWN: Final = "1.999.0"
"""A version whose core is not known, so that grpc.aio's server is used."""


def composed(
    unary: Mapping[str, Unary] = {},
    streams: Mapping[str, Streaming] = {},
    *,
    version: str = CORE,
) -> grpc.aio.Server:
    """Return a server of some handlers, which has no port yet."""
    server = listener(
        wrap=lambda handler, _path: handler,
        options=[*STEADY, ("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", LARGEST)],
        version=version,
    )
    handlers: dict[str, Any] = {
        **{name: grpc.unary_unary_rpc_method_handler(one) for name, one in unary.items()},
        **{name: grpc.stream_stream_rpc_method_handler(one) for name, one in streams.items()},
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    return server


@asynccontextmanager
async def served(
    unary: Mapping[str, Unary] = {},
    streams: Mapping[str, Streaming] = {},
    *,
    version: str = CORE,
) -> AsyncIterator[tuple[grpc.aio.Server, grpc.aio.Channel]]:
    """Serve handlers on a free port, with a channel to it."""
    server = composed(unary, streams, version=version)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", STEADY) as channel:
            yield server, channel
    finally:
        await server.stop(0)


def asking(
    channel: grpc.aio.Channel, name: str
) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    """Return what calls a method with one message."""
    return channel.unary_unary(f"/test/{name}")


def streaming(
    channel: grpc.aio.Channel, name: str
) -> "grpc.aio.StreamStreamMultiCallable[bytes, bytes]":
    """Return what opens a stream."""
    return channel.stream_stream(f"/test/{name}")


async def echo(content: bytes, _call: object) -> bytes:
    """Return what was sent."""
    return content


async def echoes(contents: AsyncIterator[bytes], call: Any) -> None:  # noqa: ANN401
    """Write what comes."""
    async for content in contents:
        await call.write(content)


async def numbered(count: int) -> AsyncIterator[bytes]:
    """Count."""
    for number in range(count):
        yield b"%d" % number


async def until_still(count: Callable[[], int]) -> None:
    """Wait until a count has stood still for a moment."""
    before = -1
    while count() != before:
        before = count()
        await asyncio.sleep(0.3)
