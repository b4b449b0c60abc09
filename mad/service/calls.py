"""Something around every call, whatever its shape: unary or streaming, ours or gRPC's own."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import grpc
from google.protobuf.message import DecodeError, Message

from mad.errors import TooLargeError, UnreadableError
from mad.metrics import Metrics, Rpc
from mad.service.deadline import deadline, deadline_of

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
RpcKind: TypeAlias = Literal["unary", "client_stream", "server_stream", "bidi_stream"]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
Parse: TypeAlias = Callable[[bytes], Message]


@dataclass(frozen=True)
class Call:
    """One call under way."""

    rpc: Rpc
    context: Context
    metadata: Metadata = ()

    @property
    def path(self) -> str:
        """Service and method as HTTP/2 carries them."""
        return f"/{self.rpc.service}/{self.rpc.method}"

    @property
    def method(self) -> str:
        """Service and method."""
        return f"{self.rpc.service}/{self.rpc.method}"


Around: TypeAlias = Callable[[Call], AbstractAsyncContextManager[None]]


@final
class CallInterceptor(grpc.aio.ServerInterceptor):
    """Runs every call, the reading of its bytes included, inside the given contexts.

    The first is outermost. gRPC reads requests before it calls a handler and answers UNKNOWN when
    that fails; here the handler reads them, so that unreadable bytes are an error like any other.
    So is a single answer too large to send, which gRPC would drop after the call has succeeded.
    """

    def __init__(self, *around: Around, max_message_bytes: int) -> None:
        self._around = around
        self._max_bytes = max_message_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["RpcHandler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "RpcHandler | None":
        """Wrap the handler; an unknown method has none."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return _wrapped(handler, handler_call_details, self._around, self._max_bytes)


def check_size(num_bytes: int, max_bytes: int) -> None:
    """Raise TooLargeError for an answer that cannot be sent."""
    if num_bytes > max_bytes:
        raise TooLargeError(
            f"the answer has {num_bytes} bytes and this server sends at most {max_bytes} in one "
            "message; ask for less at a time, or raise server.max_message_bytes"
        )


@asynccontextmanager
async def counted(call: Call, metrics: Metrics) -> AsyncIterator[None]:
    """Count a call, the status it ends with, and its time."""
    metrics.rpc_started(call.rpc)
    start = time.perf_counter()
    code = "OK"
    try:
        yield
    except asyncio.CancelledError:
        # gRPC cancels for both; None stands for a call without a deadline.
        left_s: float | None = call.context.time_remaining()
        code = "CANCELLED" if left_s is None or left_s > 0 else "DEADLINE_EXCEEDED"
        raise
    except BaseException:
        code = code_of(call.context)
        raise
    finally:
        metrics.rpc_handled(call.rpc, code=code, seconds=time.perf_counter() - start)


def code_of(context: Context) -> str:
    """Name the status a call was aborted with; gRPC gives it as a number."""
    number = context.code()
    return next(
        (code.name for code in grpc.StatusCode if number in (code, code.value[0])), "UNKNOWN"
    )


def _wrapped(
    handler: RpcHandler,
    details: grpc.HandlerCallDetails,
    around: Sequence[Around],
    max_bytes: int,
) -> RpcHandler:
    service, _, method = details.method.lstrip("/").rpartition("/")
    metadata: Metadata = tuple(details.invocation_metadata or ())
    rpc = Rpc(_kind(handler), service, method)
    begin = _begin(handler)
    serialise: Callable[[Any], bytes] | None = handler.response_serializer
    assert serialise is not None

    async def unary(request: object, context: Context) -> bytes:
        async with _inside(around, Call(rpc, context, metadata)):
            content = serialise(await begin(request, context))
            check_size(len(content), max_bytes)
            return content

    async def streaming(request: object, context: Context) -> None:
        async with _inside(around, Call(rpc, context, metadata)):
            answers = begin(request, context)
            if inspect.isawaitable(answers):
                await answers  # it writes to the context itself
                return
            # Closed here and now: a cancelled call would leave the generator to the collector.
            async with aclosing(answers):
                async for answer in answers:
                    await context.write(answer)

    make, behave, serialiser = {
        "unary": (grpc.unary_unary_rpc_method_handler, unary, None),
        "client_stream": (grpc.stream_unary_rpc_method_handler, unary, None),
        "server_stream": (grpc.unary_stream_rpc_method_handler, streaming, serialise),
        "bidi_stream": (grpc.stream_stream_rpc_method_handler, streaming, serialise),
    }[rpc.kind]
    return make(behave, response_serializer=serialiser)


def _begin(handler: RpcHandler) -> Callable[[Any, Context], Any]:
    """Return what reads a request's bytes and calls the handler's own behaviour with them."""
    parse = handler.request_deserializer
    behaviour: Callable[[Any, Any], Any] | None = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    assert parse is not None
    assert behaviour is not None
    reading = _each if handler.request_streaming else _read
    return lambda request, context: behaviour(reading(request, parse), context)


def _read(content: bytes, parse: Parse) -> Message:
    try:
        return parse(content)
    except DecodeError as error:
        raise UnreadableError(
            f"the request's {len(content)} bytes are not the message this method takes; encode "
            "it with this API's .proto files"
        ) from error


async def _each(contents: AsyncIterable[bytes], parse: Parse) -> AsyncIterator[Message]:
    async for content in contents:
        yield _read(content, parse)


def _kind(handler: RpcHandler) -> RpcKind:
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return "unary"
        case True, False:
            return "client_stream"
        case False, True:
            return "server_stream"
        case _:
            return "bidi_stream"


@asynccontextmanager
async def _inside(around: Sequence[Around], call: Call) -> AsyncIterator[None]:
    deadline.set(deadline_of(call.context.time_remaining()))
    async with AsyncExitStack() as stack:
        for enter in around:
            await stack.enter_async_context(enter(call))
        yield
