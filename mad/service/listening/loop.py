"""An event loop that itself waits for gRPC's core while calls come.

Otherwise a thread waits for the core and wakes the loop: two threads more often than one want the
interpreter, and each time it is handed over costs as much as a good part of a call.
"""

import asyncio
import selectors
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, Protocol, TypeVarTuple, Unpack, final

Arguments = TypeVarTuple("Arguments")

QUIET_S: Final = 0.5
"""A source that brings nothing for so long is given back to its thread: an idle process sleeps."""

LOOK_S: Final = 0.05
"""How often files are looked at meanwhile; only signals come by them, see ``Waits``."""

AT_ONCE: Final = 32
"""Events that are taken before what they began is done."""


class Source(Protocol):
    """What a loop can wait for in place of files: a queue of events."""

    def next(self, seconds: float) -> Any:  # noqa: ANN401  # the core's
        """Return the next event, waiting for so long; None if none comes."""

    def handle(self, event: Any) -> None:  # noqa: ANN401  # the core's
        """Do what is to be done with an event."""

    def settle(self) -> None:
        """Do what was put off until several events are handled."""

    def wake(self) -> None:
        """Have ``next`` return soon; from any thread."""

    def give_back(self) -> None:
        """Note that the loop waits for it no longer."""


@final
class Waits(selectors.DefaultSelector):
    """What the loop waits for: files, or a source as long as the loop has no files of its own.

    The one file it always has is the end of a pipe, by which signals and other threads wake it.
    While it waits for a source other threads do so by that, and signals wait for ``LOOK_S``.
    In so many turns as ``passes`` says, of which each has more to do, the source is not asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.source: Source | None = None
        self.is_waiting = False
        self.has_news = False
        self.passes = 0
        self._came_at = 0.0
        self._looked_at = 0.0

    @property
    def is_free(self) -> bool:
        """Whether a source can be waited for."""
        return self.source is None and not self._has_files

    @property
    def _has_files(self) -> bool:
        return len(self.get_map()) > 1

    def take(self, source: Source) -> bool:
        """Wait for a source from now on, in the loop; False if it cannot."""
        if not self.is_free:
            return False
        self._came_at = time.monotonic()
        self.source = source
        return True

    def give_back(self) -> None:
        """Wait for files from now on, in the loop."""
        source, self.source = self.source, None
        if source is not None:
            source.give_back()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the files that are ready; what a source brings is done here."""
        if self.source is None:
            return super().select(timeout)
        if timeout == 0 and self.passes:
            self.passes -= 1
            return []
        self.passes = 0
        now = time.monotonic()
        if now - self._came_at > QUIET_S or self._has_files:
            self.give_back()
            # Who has spoken before that has not written to the pipe.
            return super().select(0 if self._heard() else timeout)
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            if ready := super().select(0):
                return ready
        if self._bring(self.source, LOOK_S if timeout is None else min(timeout, LOOK_S)):
            self._came_at = now
        return []

    def _bring(self, source: Source, timeout: float) -> bool:
        """Handle what a source brings, waiting for so long for the first; False if nothing came."""
        self.is_waiting = timeout > 0
        # Asked after that is said: who speaks from here on wakes the source.
        event = source.next(0.0 if self._heard() else timeout)
        self.is_waiting = False
        left = AT_ONCE
        while event is not None and left:
            source.handle(event)
            left -= 1
            event = source.next(0.0) if left else None
        source.settle()
        return left < AT_ONCE

    def _heard(self) -> bool:
        has_news, self.has_news = self.has_news, False
        return has_news


@final
class CoreLoop(asyncio.SelectorEventLoop):
    """asyncio's own event loop, which a source can be handed to."""

    def __init__(self) -> None:
        self.waits = Waits()
        super().__init__(self.waits)

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Have something called soon, from any thread."""
        waits = self.waits
        # Where things are looked after more closely, only the loop's own thread may call_soon.
        is_written = waits.source is None or self.get_debug()
        speak = super().call_soon_threadsafe if is_written else self.call_soon
        handle = speak(callback, *args, context=context)
        waits.has_news = True
        # Asked again after that is said: it may have changed in either direction meanwhile.
        source = waits.source
        if source is None:
            if not is_written:
                super().call_soon_threadsafe(_nothing)
        elif waits.is_waiting:
            waits.is_waiting = False
            source.wake()
        return handle


def _nothing() -> None:
    """Do nothing: the loop was to be woken."""
