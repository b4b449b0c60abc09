"""The messages of one stream, read a few ahead of the handler that takes them."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias, final

from mad.service.listening.completions import Completions, wake

Receive: TypeAlias = Callable[[Callable[[bytes | None], None]], None]
"""Ask for the next message, and be called with it in the waiting thread; None ends them."""

HELD: Final = 8
"""Messages that may wait for their handler; beyond these the caller's own flow control waits."""

HELD_BYTES: Final = 256 * 1024
"""None is asked for while as many bytes wait, so that large messages wait one at a time."""


@final
class Requests:
    """An asynchronous iterator over what a caller sends until it sends no more.

    While some are unanswered, of which ``answered`` counts the others, the next may wait for
    company; so may those after several that came together, until as many have come again.
    """

    def __init__(
        self, receive: Receive, completions: Completions, answered: Callable[[], int]
    ) -> None:
        self._receive: Receive | None = receive
        self._answered: Callable[[], int] | None = answered
        self._completions = completions
        self._lock = threading.Lock()
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._taken = 0
        self._together = 0
        self._is_asked = True
        self._is_over = False
        self._is_due = False
        self._waiting: asyncio.Future[None] | None = None
        self._has_come = False
        self._first: asyncio.Future[None] | None = None
        receive(self._came)

    def __aiter__(self) -> "Requests":
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next message, or stop."""
        while True:
            if taken := self.take(1):
                return taken[0]
            with self._lock:
                if self._held:
                    continue
                if self._is_over:
                    raise StopAsyncIteration
                waiting = self._waiting = asyncio.get_running_loop().create_future()
            await waiting

    def take(self, most: int) -> list[bytes]:
        """Take what needs no waiting, but at most so many messages."""
        with self._lock:
            taken = [self._held.popleft() for _ in range(min(most, len(self._held)))]
            self._taken += len(taken)
            self._held_bytes -= sum(map(len, taken))
            asks = bool(taken) and not self._is_asked and self._has_room()
            self._is_asked |= asks
        if asks:
            self._ask()
        return taken

    async def begun(self, seconds: float) -> None:
        """Wait so long for the first message, or for there being none."""
        with self._lock:
            if self._has_come:
                return
            first = self._first = asyncio.get_running_loop().create_future()
        with suppress(TimeoutError):
            await asyncio.wait_for(first, seconds)

    def close(self) -> None:
        """Read no further, and let go of the call."""
        with self._lock:
            self._receive = self._answered = None
            self._is_over = True
            self._held.clear()

    def _has_room(self) -> bool:
        return not self._is_over and len(self._held) < HELD and self._held_bytes < HELD_BYTES

    def _ask(self) -> None:
        receive = self._receive
        if receive is not None:
            receive(self._came)

    def _came(self, content: bytes | None) -> None:
        """Keep a message and ask for another, in the waiting thread."""
        with self._lock:
            if content is None:
                self._is_over = True
            elif not self._is_over:
                self._held.append(content)
                self._held_bytes += len(content)
            self._is_asked = asks = self._has_room()
            self._has_come = True
            first, self._first = self._first, None
            is_expecting = self._is_answering() or 0 < len(self._held) < self._together
            may_wait = asks and is_expecting and self._waiting is not None
            holds, self._is_due = may_wait and not self._is_due, self._is_due or may_wait
        if asks:
            self._ask()
        if holds:
            self._completions.hold(self._tell)
        elif not may_wait and self._waiting is not None:
            self._completions.hand(self._tell)
        if first is not None:
            self._completions.hand(partial(wake, first))

    def _is_answering(self) -> bool:
        """Whether what was taken is not all answered yet."""
        return self._answered is not None and self._taken > self._answered()

    def _tell(self) -> None:
        """Wake the handler, in the loop."""
        with self._lock:
            self._is_due = False
            self._together = len(self._held)
            waiting, self._waiting = self._waiting, None
        if self._together > 1:
            self._completions.rest()
        if waiting is not None:
            wake(waiting)
