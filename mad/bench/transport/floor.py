"""What a server cannot be cheaper than: bytes in and the same bytes out, nothing read.

Run as ``python -m mad.bench.transport.floor (loop|thread|core) PORT``. ``loop`` answers in the
event loop of grpc.aio; ``thread`` has another thread answer, as a model has one, by the queue our
servers use; so does ``core``, of what our servers listen with in place of grpc.aio.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from mad.service import process
from mad.service.calls import Context
from mad.service.listening.listener import RpcHandler, listener
from mad.service.oip.model import SERVICE
from mad.service.worker import Worker


class _Message:
    """One request; compared by identity, as jobs are."""

    def __init__(self, content: bytes) -> None:
        self.content = content


def _contents(messages: Sequence[_Message]) -> Sequence[bytes]:
    return [message.content for message in messages]


async def serve(port: int, kind: str) -> None:
    """Serve until killed."""
    by_thread = kind in ("thread", "core")
    worker: Worker[_Message, bytes] = Worker("echo", choose=list, work=_contents)
    worker.start()

    async def echo(content: bytes, _: object) -> bytes:
        return await worker.submit(_Message(content)) if by_thread else content

    async def echoes(contents: AsyncIterator[bytes], context: Context) -> None:
        async for content in contents:
            await context.write(await echo(content, context))

    unary: Any = grpc.unary_unary_rpc_method_handler(echo)
    stream: Any = grpc.stream_stream_rpc_method_handler(echoes)
    handlers = {"ModelInfer": unary, "ModelStreamInfer": stream}
    options = [("grpc.so_reuseport", 0)]
    server = (
        listener(wrap=_alone, options=options)
        if kind == "core"
        else grpc.aio.server(options=options)
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    process.keep_loaded()
    await asyncio.Event().wait()


def _alone(handler: RpcHandler, _: str) -> RpcHandler:
    """Put nothing around a handler."""
    return handler


if __name__ == "__main__":
    process.run(serve(int(sys.argv[2]), sys.argv[1]))
