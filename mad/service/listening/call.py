"""One call on gRPC's core: what a handler of grpc.aio may ask of its context."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn, TypeAlias, final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no types

from mad.service.listening.answers import Answers
from mad.service.listening.completions import Completions
from mad.service.listening.requests import Requests

log = logging.getLogger(__name__)

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

_NO_FLAGS: Final = 0
_FOLLOWED: Final[int] = cygrpc.WriteFlag.buffer_hint
"""A message that need not go out before the one behind it."""

_ENDLESS_S: Final = 1e12
"""Deadlines later than this are what the core says of a call without one."""

_PATIENCE_S: Final = 0.1
"""How long a stream that is to be refused is waited for to say something. grpc.aio's client reports
INTERNAL for one that ends under its first message, and its caller never learns why."""

_OK: Final[int] = cygrpc.StatusCode.ok
_UNKNOWN: Final[int] = cygrpc.StatusCode.unknown


@final
class CoreCall:
    """A call under way, which stands for ``grpc.aio.ServicerContext`` to handlers.

    Methods whose names end in ``_came`` run in the waiting thread, that is the one that waits for
    the core, be it the event loop's own; the others in the event loop.
    """

    __slots__ = (
        "_answers",
        "_call",
        "_completions",
        "_deadline",
        "_has_begun",
        "_metadata",
        "_requests",
        "_status",
        "serialise",
        "task",
    )

    def __init__(self, event: Any, completions: Completions) -> None:  # noqa: ANN401  # the core's
        self._call = event.call
        self._metadata: Metadata = event.invocation_metadata
        self._deadline: float = event.call_details.deadline
        self._completions = completions
        self._status: int | None = None
        self._has_begun = False
        self._answers: Answers | None = None
        self._requests: Requests | None = None
        self.serialise: Callable[[Any], bytes] | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether a status was sent."""
        return self._status is not None

    def watch(self, ended: Callable[["CoreCall", bool], None]) -> None:
        """Have a function told, in the waiting thread, when it ends and whether by the caller."""

        def came(event: Any) -> None:  # noqa: ANN401  # the core's
            ended(self, event.batch_operations[0].cancelled())

        self._ask((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), came)

    def receive(self, came: Callable[[bytes | None], None]) -> None:
        """Ask for the next message; None comes when there is no further one.

        May be called in either thread.
        """

        def received(event: Any) -> None:  # noqa: ANN401  # the core's
            came(event.batch_operations[0].message() if event.success else None)

        if not self._ask((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), received):
            came(None)

    def requests(self) -> Requests:
        """Return the messages of a stream, some of which are read ahead."""
        self._requests = Requests(self.receive, self._completions, self._answered)
        return self._requests

    def close(self) -> None:
        """Let go of what would keep the call once its handler has ended."""
        if self._requests is not None:
            self._requests.close()
        self._answers = None

    def invocation_metadata(self) -> Metadata:
        """Return what the caller sent beside the request."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline; None if there is none."""
        if self._deadline > _ENDLESS_S:
            return None
        return max(self._deadline - time.time(), 0.0)

    def peer(self) -> str:
        """Return the caller's address."""
        name: bytes = self._call.peer()
        return name.decode()

    def auth_context(self) -> dict[str, Iterable[bytes]]:
        """Return what is known of the caller's certificate."""
        known: dict[bytes, Iterable[bytes]] = cygrpc.auth_context(self._call)
        return {name.decode(): values for name, values in known.items()}

    def code(self) -> int:
        """Return the number of the status that was sent, 0 before."""
        return self._status or 0

    async def write(self, message: Any) -> None:  # noqa: ANN401  # of any method
        """Send one message of a stream, once there is room for it among those on their way."""
        content: bytes = message if self.serialise is None else self.serialise(message)
        if self._answers is None:
            self._answers = Answers(self._send, self._completions)
        await self._answers.put(content)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with a status."""
        if self._requests is not None:
            await self._requests.begun(_PATIENCE_S)
        if self._answers is not None:
            await self._answers.sent()
        self.end(code.value[0], details, trailing_metadata)
        raise grpc.aio.AbortError("the call was ended")

    async def answer(self, content: bytes | None) -> None:
        """End the call well, with the message of a call that has one answer."""
        if self._answers is not None:
            await self._answers.sent()
        self.end(_OK, content=content)

    def end(
        self,
        code: int,
        details: str = "",
        trailing: Metadata = (),
        *,
        content: bytes | None = None,
    ) -> None:
        """Send a status, after a last message if there is one; a second status goes nowhere."""
        if self._status is not None:
            return
        self._status = code
        message = () if content is None else (cygrpc.SendMessageOperation(content, _NO_FLAGS),)
        try:
            status = cygrpc.SendStatusFromServerOperation(
                tuple(trailing), code, details.encode(errors="replace"), _NO_FLAGS
            )
            self._ask((*self._first(), *message, status), _ignored)
        except Exception:
            # Such as trailers that the core does not take; a caller must not wait for ever.
            log.exception("the status of a call could not be sent")
            self._call.cancel(_UNKNOWN, "")

    def _ask(self, operations: tuple[Any, ...], came: Callable[[Any], None]) -> bool:
        return self._completions.ask(self._call, operations, came)

    def _first(self) -> tuple[Any, ...]:
        if self._has_begun:
            return ()
        self._has_begun = True
        return (cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),)

    def _answered(self) -> int:
        return 0 if self._answers is None else self._answers.count

    def _send(self, content: bytes, is_followed: bool, came: Callable[[Any], None]) -> bool:
        # The first goes out at once: what it begins the call with is not on its way before.
        flags = _FOLLOWED if is_followed and self._has_begun else _NO_FLAGS
        operations = (*self._first(), cygrpc.SendMessageOperation(content, flags))
        try:
            return self._ask(operations, came)
        except Exception:
            log.exception("a message of a stream could not be sent")
            self._call.cancel(_UNKNOWN, "")
            return False


def _ignored(_event: object) -> None:
    """Do nothing: a status that cannot be sent has nobody to go to."""
