"""What the core of gRPC has finished, brought from a waiting thread into the event loop."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias, final

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no types

log = logging.getLogger(__name__)

Finished: TypeAlias = Callable[[Any], None]
"""What to do, in the waiting thread, with an event of the core: the tag of what was asked for."""

HOLD_S: Final = 0.001
"""How long what may wait for company waits for it."""

_OK: Final = cygrpc.CallError.ok
_QUEUE_SHUTDOWN: Final = cygrpc.CompletionType.queue_shutdown
_QUEUE_TIMEOUT: Final = cygrpc.CompletionType.queue_timeout


@final
class Completions:
    """A completion queue, its thread, and a way from there into the event loop.

    Events that come while the loop is busy wake it once for all of them.
    """

    def __init__(self) -> None:
        self.queue = cygrpc.CompletionQueue()
        self._loop = asyncio.get_running_loop()
        self._handed: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._due: float | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        # A process that ends without having stopped its server does not wait for callers.
        self._thread = threading.Thread(target=self._wait, name="grpc-core", daemon=True)

    def start(self) -> None:
        """Begin to wait for events."""
        self._thread.start()

    def ask(self, call: Any, operations: tuple[Any, ...], came: Finished) -> bool:  # noqa: ANN401  # the core's
        """Ask the core for something to do with a call; False, and nothing asked, once closed.

        What is asked of a closed queue would end the process, so this is the only way to ask. May
        be called in either thread. Raises ValueError for what the core does not take.
        """
        with self._lock:
            if self._is_closed:
                return False
            error = call.start_server_batch(operations, came)
        if error != _OK:
            raise ValueError(f"gRPC's core does not take {operations}: error {error}")
        return True

    def hand(self, step: Callable[[], None]) -> None:
        """Have the event loop do something soon, in the order of such calls; from the thread."""
        self._handed.append(step)
        self._wake()

    def hold(self, step: Callable[[], None]) -> None:
        """Have the loop do something when it is woken for more, or ``HOLD_S`` later; in the thread.

        A message that waits for others costs a part of what one by itself does.
        """
        self._handed.append(step)
        if not self._is_woken and self._due is None:
            self._due = time.monotonic() + HOLD_S

    async def close(self) -> None:
        """Take no further questions, and wait until all that was asked for has come."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self.queue.shutdown()
        await asyncio.to_thread(self._thread.join)

    def _wake(self) -> None:
        self._due = None
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        # Before they are counted: what is handed from here on wakes the loop again.
        self._is_woken = False
        for _ in range(len(self._handed)):
            step = self._handed.popleft()
            try:
                step()
            except Exception:
                log.exception("a step of a call failed")

    def _wait(self) -> None:
        while True:
            event = self.queue.poll(self._until())
            kind = event.completion_type
            if kind == _QUEUE_SHUTDOWN:
                return
            if kind != _QUEUE_TIMEOUT:
                try:
                    event.tag(event)
                except Exception:
                    log.exception("an event of gRPC's core could not be handled")
            # An event kept while the next is waited for would keep its call.
            del event
            due = self._due
            if due is not None and time.monotonic() >= due:
                self._wake()

    def _until(self) -> float | None:
        """Return when to wait no longer, by the system's clock as the core wants it."""
        due = self._due
        return None if due is None else time.time() + max(due - time.monotonic(), 0.0)


def wake(waiting: asyncio.Future[None]) -> None:
    """Let what waits go on, unless it was cancelled meanwhile."""
    if not waiting.done():
        waiting.set_result(None)
