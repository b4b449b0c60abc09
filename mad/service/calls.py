"""Something around every call, whatever its shape: unary or streaming, ours or gRPC's own."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, final

import grpc
from google.protobuf.message import DecodeError

from mad.errors import TooLargeError, UnreadableError
from mad.metrics import Metrics, Rpc
from mad.metrics.calls import CallSeries
from mad.service.deadline import deadline, deadline_of

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
RpcKind: TypeAlias = Literal["unary", "client_stream", "server_stream", "bidi_stream"]
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
Parse: TypeAlias = Callable[[bytes], Any]


class Call(NamedTuple):
    """One call under way."""

    rpc: Rpc
    context: Context

    @property
    def metadata(self) -> Metadata:
        """What the caller sent beside the request."""
        return tuple(self.context.invocation_metadata() or ())

    @property
    def path(self) -> str:
        """Service and method as HTTP/2 carries them."""
        return f"/{self.rpc.service}/{self.rpc.method}"

    @property
    def method(self) -> str:
        """Service and method."""
        return f"{self.rpc.service}/{self.rpc.method}"


@final
@dataclass(frozen=True, kw_only=True)
class Around:
    """What happens around every call.

    ``admit`` raises for a call that may not be, ``hold`` keeps a place for a call that streams, and
    ``refuse`` ends a call with the status of an error. ``trace`` is around all of it; None does
    nothing.
    """

    metrics: Metrics
    admit: Callable[[Call], None]
    hold: Callable[[Call], AbstractContextManager[None]]
    refuse: Callable[[Call, Exception], Awaitable[None]]
    trace: Callable[[Call], AbstractContextManager[None]] | None = None


def check_size(num_bytes: int, max_bytes: int) -> None:
    """Raise TooLargeError for an answer that cannot be sent."""
    if num_bytes > max_bytes:
        raise TooLargeError(
            f"the answer has {num_bytes} bytes and this server sends at most {max_bytes} in one "
            "message; ask for less at a time, or raise server.max_message_bytes"
        )


def code_of(context: Context) -> str:
    """Name the status a call was aborted with; gRPC gives it as a number."""
    number = context.code()
    return next(
        (code.name for code in grpc.StatusCode if number in (code, code.value[0])), "UNKNOWN"
    )


def wrapped(
    handler: RpcHandler, path: str, *, around: Around, max_message_bytes: int
) -> RpcHandler:
    """Run every call of a handler, the reading of its bytes included, inside what is around calls.

    The handler reads bytes itself, so that unreadable ones are an error like any other, and so is a
    single answer too large to send.
    """
    service, _, method = path.lstrip("/").rpartition("/")
    rpc = Rpc(_kind(handler), service, method)
    series = around.metrics.calls.of(rpc)
    begin = _begin(handler, series)
    serialise: Callable[[Any], bytes] | None = handler.response_serializer
    assert serialise is not None

    async def one(request: object, context: Context) -> bytes:
        content = serialise(await begin(request, context))
        check_size(len(content), max_message_bytes)
        series.sent.inc()
        return content

    async def many(request: object, context: Context) -> None:
        answers = begin(request, context)
        if inspect.isawaitable(answers):
            await answers  # it writes to the context itself
            return
        # Closed here and now: a cancelled call would leave the generator to the collector.
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)
                series.sent.inc()

    inside = _inside if around.trace is None else _traced
    unary = partial(inside, around, rpc, series, one)
    streaming = partial(inside, around, rpc, series, many)
    make, behave, serialiser = {
        "unary": (grpc.unary_unary_rpc_method_handler, unary, None),
        "client_stream": (grpc.stream_unary_rpc_method_handler, unary, None),
        "server_stream": (grpc.unary_stream_rpc_method_handler, streaming, serialise),
        "bidi_stream": (grpc.stream_stream_rpc_method_handler, streaming, serialise),
    }[rpc.kind]
    return make(behave, response_serializer=serialiser)


def _begin(handler: RpcHandler, series: CallSeries) -> Callable[[Any, Context], Any]:
    """Return what reads a request's bytes and calls the handler's own behaviour with them."""
    parse = handler.request_deserializer
    behaviour: Callable[[Any, Any], Any] | None = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    assert parse is not None
    assert behaviour is not None
    reading = _Each if handler.request_streaming else _read
    return lambda request, context: behaviour(reading(request, parse, series), context)


def _read(content: bytes, parse: Parse, series: CallSeries) -> Any:  # noqa: ANN401  # of any method
    series.received.inc()
    try:
        return parse(content)
    except DecodeError as error:
        raise UnreadableError(
            f"the request's {len(content)} bytes are not the message this method takes; encode "
            "it with this API's .proto files"
        ) from error


@final
class _Each:
    """The messages of a stream, each read when it is taken."""

    def __init__(self, contents: AsyncIterator[bytes], parse: Parse, series: CallSeries) -> None:
        self._contents = contents
        self._parse = parse
        self._series = series

    def __aiter__(self) -> "_Each":
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401  # of any method
        return _read(await anext(self._contents), self._parse, self._series)

    def take(self, most: int) -> list[Any]:
        """Read what needs no waiting, as far as that is known, but at most so many."""
        take: Callable[[int], Sequence[bytes]] | None = getattr(self._contents, "take", None)
        contents = take(most) if take is not None else ()
        return [_read(content, self._parse, self._series) for content in contents]


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


async def _traced(
    around: Around,
    rpc: Rpc,
    series: CallSeries,
    answer: Callable[[object, Context], Awaitable[Any]],
    request: object,
    context: Context,
) -> Any:  # noqa: ANN401  # of any handler
    assert around.trace is not None
    with around.trace(Call(rpc, context)):
        return await _inside(around, rpc, series, answer, request, context)


async def _inside(
    around: Around,
    rpc: Rpc,
    series: CallSeries,
    answer: Callable[[object, Context], Awaitable[Any]],
    request: object,
    context: Context,
) -> Any:  # noqa: ANN401  # of any handler
    # No context managers here, though they would read better: this is done for every call.
    call = Call(rpc, context)
    deadline.set(deadline_of(context.time_remaining()))
    series.started.inc()
    start = time.perf_counter()
    code = "OK"
    try:
        around.admit(call)
        if rpc.kind == "unary":
            return await answer(request, context)
        with around.hold(call):
            return await answer(request, context)
    except asyncio.CancelledError:
        # gRPC cancels for both; None stands for a call without a deadline.
        left_s: float | None = context.time_remaining()
        code = "CANCELLED" if left_s is None or left_s > 0 else "DEADLINE_EXCEEDED"
        raise
    except grpc.aio.AbortError:
        code = code_of(context)
        raise
    except Exception as error:  # noqa: BLE001  # it ends the call with its status
        try:
            await around.refuse(call, error)
        finally:
            code = code_of(context)
    finally:
        series.ended(code, time.perf_counter() - start)
