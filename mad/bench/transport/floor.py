"""What no server of grpc.aio can be cheaper than: bytes in and the same bytes out, nothing read.

Run as ``python -m mad.bench.transport.floor (loop|thread) PORT``. ``loop`` answers in the event
loop; ``thread`` has another thread answer, as a model has one, by the queue our servers use.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from mad.service import process
from mad.service.oip.model import SERVICE
from mad.service.worker import Worker


class _Message:
    """One request; compared by identity, as jobs are."""

    def __init__(self, content: bytes) -> None:
        self.content = content


def _contents(messages: Sequence[_Message]) -> Sequence[bytes]:
    return [message.content for message in messages]


async def serve(port: int, *, by_thread: bool) -> None:
    """Serve until killed."""
    worker: Worker[_Message, bytes] = Worker("echo", choose=list, work=_contents)
    worker.start()

    async def echo(content: bytes, _: object) -> bytes:
        return await worker.submit(_Message(content)) if by_thread else content

    async def echoes(contents: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for content in contents:
            yield await echo(content, _)

    unary: Any = grpc.unary_unary_rpc_method_handler(echo)
    stream: Any = grpc.stream_stream_rpc_method_handler(echoes)
    handlers = {"ModelInfer": unary, "ModelStreamInfer": stream}
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    process.keep_loaded()
    await asyncio.Event().wait()


if __name__ == "__main__":
    process.run(serve(int(sys.argv[2]), by_thread=sys.argv[1] == "thread"))
