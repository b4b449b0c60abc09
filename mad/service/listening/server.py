"""Calls of gRPC's core, run by handlers of grpc.aio in the event loop."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias, final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no types

from mad.service.listening.call import CoreCall, Metadata
from mad.service.listening.completions import Completions

log = logging.getLogger(__name__)

RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

ASKED: Final = 16
"""Calls that the core is asked for ahead, so that it need not wait for us to ask again."""

_UNKNOWN: Final[int] = cygrpc.StatusCode.unknown
_UNIMPLEMENTED: Final[int] = cygrpc.StatusCode.unimplemented
_INVALID_ARGUMENT: Final[int] = cygrpc.StatusCode.invalid_argument
_CANCELLED: Final[int] = cygrpc.StatusCode.cancelled


@final
@dataclass(slots=True)
class _Details:
    """What a generic handler is asked by; it stands for ``grpc.HandlerCallDetails``."""

    method: str
    invocation_metadata: Metadata


@final
class CoreServer:
    """A server in the running event loop, with what our own code needs of ``grpc.aio.Server``.

    grpc.aio spends two thirds of a small call's processor time between the core and its handlers;
    here the loop takes events from the core itself while calls come, and else a thread does, which
    wakes the loop once for many. ``wrap`` is put around each handler when it is first called; what
    it returns takes and gives bytes.
    """

    def __init__(
        self,
        *,
        wrap: Callable[[RpcHandler, str], RpcHandler],
        options: Sequence[tuple[str, int]],
    ) -> None:
        self._server = cygrpc.Server(tuple(options), False)
        self._wrap = wrap
        self._generic: list[grpc.GenericRpcHandler] = []
        self._known: dict[bytes, RpcHandler] = {}
        self._live: set[CoreCall] = set()
        self._loop = asyncio.get_running_loop()
        self._completions = Completions()
        self._server.register_completion_queue(self._completions.queue)
        self._lock = threading.Lock()
        self._has_started = False
        self._is_stopping = False
        self._left = asyncio.Event()
        self._ending = asyncio.Lock()
        self._stopped = asyncio.Event()

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Sequence["grpc.GenericRpcHandler"]
    ) -> None:
        """Add handlers, which are asked in the order they were added."""
        self._generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, RpcHandler]
    ) -> None:
        """Do nothing: the same handlers are there by their names."""

    def add_insecure_port(self, address: str) -> int:
        """Listen without encryption and return the port; RuntimeError as grpc.aio's."""
        return self._bound(self._server.add_http2_port(address.encode()), address)

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Listen with TLS and return the port; RuntimeError as grpc.aio's."""
        inner: Any = credentials
        # As grpc's own servers take it.
        port = self._server.add_http2_port(address.encode(), inner._credentials)
        return self._bound(port, address)

    async def start(self) -> None:
        """Take calls from now on."""
        self._begin_events()
        for _ in range(ASKED):
            self._ask()

    async def stop(self, grace: float | None) -> None:
        """Take no further calls, and end those under way after so many seconds."""
        if not self._has_started:
            # The core gives up ports only of what has started.
            self._begin_events()
        with self._lock:
            is_first, self._is_stopping = not self._is_stopping, True
        # The server has stopped when no call is left, not even one that has ended.
        self._completions.stay()
        if is_first:
            self._server.shutdown(self._completions.queue, self._shut_came)
        try:
            await asyncio.wait_for(self._left.wait(), grace or 0.001)
        except TimeoutError:
            self._server.cancel_all_calls()
            await self._left.wait()
        async with self._ending:
            # Handlers of calls that were cancelled may still be putting things away.
            tasks = [call.task for call in self._live if call.task is not None]
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._completions.close()
            self._server.destroy()
            self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped; whether it has within so many seconds."""
        try:
            await asyncio.wait_for(self._stopped.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def _bound(self, port: int, address: str) -> int:
        if port == 0:
            raise RuntimeError(f"failed to bind to address {address}")
        return port

    def _begin_events(self) -> None:
        self._server.start()
        self._has_started = True
        self._completions.start()

    def _ask(self) -> None:
        queue = self._completions.queue
        with self._lock:
            if not self._is_stopping:
                self._server.request_call(queue, queue, self._call_came)

    def _call_came(self, event: Any) -> None:  # noqa: ANN401  # the core's
        """Begin a call, in the waiting thread."""
        if not event.success:  # the server stops, and what was asked for will not come
            return
        self._ask()
        self._completions.came(event.call)
        call = CoreCall(event, self._completions)
        try:
            self._greet(call, event.call_details.method, event.invocation_metadata)
        except Exception:
            log.exception("a call could not begin")
            self._refuse(call, _UNKNOWN)

    def _greet(self, call: CoreCall, path: bytes, metadata: Metadata) -> None:
        call.watch(self._end_came)
        handler = self._handler(path, metadata)
        if handler is None:
            self._refuse(call, _UNIMPLEMENTED, "Method not found!")
        elif handler.request_streaming:
            self._completions.hand(partial(self._begin, call, handler, call.requests()))
        else:
            call.receive(partial(self._message_came, call, handler))

    def _message_came(self, call: CoreCall, handler: RpcHandler, content: bytes | None) -> None:
        """Hand a call with its only message to the loop, in the waiting thread."""
        if content is None:
            # Of a call that was cancelled or whose message is too large, the core says so itself.
            self._refuse(call, _INVALID_ARGUMENT, "the call has no request; send one message")
        else:
            self._completions.hand(partial(self._begin, call, handler, content))

    def _refuse(self, call: CoreCall, code: int, details: str = "") -> None:
        """Have a call ended by the loop, which alone ends calls; in the waiting thread."""
        self._completions.hand(partial(call.end, code, details))

    def _end_came(self, call: CoreCall, was_cancelled: bool) -> None:
        if was_cancelled:
            self._completions.hand(partial(self._cancel, call))

    def _shut_came(self, _event: object) -> None:
        """Note, in the waiting thread, that no call is left."""
        self._completions.hand(self._left.set)

    def _handler(self, path: bytes, metadata: Metadata) -> "RpcHandler | None":
        if (known := self._known.get(path)) is not None:
            return known
        name = path.decode(errors="replace")
        details = _Details(name, metadata)
        for generic in self._generic:
            found = generic.service(details)
            if found is not None:
                # Only what a server has comes here, so callers cannot make it grow.
                wrapped = self._known[path] = self._wrap(found, name)
                return wrapped
        return None

    def _begin(self, call: CoreCall, handler: RpcHandler, request: object) -> None:
        if call.is_over:
            call.close()
            return
        self._live.add(call)
        call.serialise = handler.response_serializer
        call.task = self._loop.create_task(self._run(call, handler, request))

    def _cancel(self, call: CoreCall) -> None:
        if call.task is None:
            call.end(_CANCELLED)
        elif not call.is_over:
            call.task.cancel()

    async def _run(self, call: CoreCall, handler: RpcHandler, request: object) -> None:
        behave: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        try:
            await call.answer(await behave(request, call))
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            call.end(_CANCELLED)
        except Exception:
            log.exception("a call ended in an error that nothing around it had foreseen")
            call.end(_UNKNOWN)
        finally:
            call.close()
            self._live.discard(call)
