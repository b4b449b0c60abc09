"""The messages that one stream answers with, sent one after the other behind its handler."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, final

from mad.service.listening.completions import Completions, Finished, wake

Send: TypeAlias = Callable[[bytes, bool, Finished], bool]
"""Send a message; whether another is right behind it; what to call, in the waiting thread, when it
is on its way. False if nothing can be sent any more. May be called in either thread."""

HELD: Final = 8
"""Messages that may wait to be sent; beyond these the handler waits."""

HELD_BYTES: Final = 64 * 1024
"""As many bytes may wait before the handler does."""


@final
class Answers:
    """A queue of messages to send, of which the core takes one at a time.

    Each is given to the core by whoever learns that the one before is on its way, so the event loop
    is woken for none of them.
    """

    def __init__(self, send: Send, completions: Completions) -> None:
        self.count = 0
        self._send = send
        self._completions = completions
        self._lock = threading.Lock()
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._is_sending = False
        self._is_due = False
        self._is_over = False
        self._waiting: asyncio.Future[None] | None = None

    async def put(self, content: bytes) -> None:
        """Have a message sent, once there is room for it to wait."""
        if len(self._held) >= HELD or self._held_bytes >= HELD_BYTES:
            await self.sent()
        self.count += 1
        with self._lock:
            if self._is_over:
                return
            self._held.append(content)
            self._held_bytes += len(content)
            is_begun = self._is_sending or self._is_due
            self._is_due |= not is_begun
        if not is_begun:
            # Not at once: what is written in the same turn of the loop goes out together.
            asyncio.get_running_loop().call_soon(self._begin)

    async def sent(self) -> None:
        """Wait until all of them are on their way, or nothing can be sent any more."""
        while True:
            with self._lock:
                if not self._held and not self._is_sending:
                    return
                waiting = self._waiting = asyncio.get_running_loop().create_future()
            self._begin()
            await waiting

    def _begin(self) -> None:
        with self._lock:
            self._is_due = False
            begins = bool(self._held) and not self._is_sending
            self._is_sending |= begins
        if begins:
            self._next()

    def _next(self) -> None:
        with self._lock:
            content = self._held.popleft()
            self._held_bytes -= len(content)
            is_followed = bool(self._held)
        if not self._send(content, is_followed, self._sent_came):
            self._end()

    def _sent_came(self, event: Any) -> None:  # noqa: ANN401  # the core's
        """Send the next message, in the waiting thread."""
        if not event.success:
            self._end()
            return
        with self._lock:
            self._is_sending = bool(self._held)
            goes_on = self._is_sending
        if goes_on:
            self._next()
        else:
            self._tell()

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            self._is_sending = False
            self._held.clear()
            self._held_bytes = 0
        self._tell()

    def _tell(self) -> None:
        """Wake who waits; mostly nobody does."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._completions.hand(partial(wake, waiting))
