"""What the core of gRPC has finished, brought from who waits for it into the event loop."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias, final

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no types

from mad.service.listening.loop import CoreLoop

log = logging.getLogger(__name__)

Finished: TypeAlias = Callable[[Any], None]
"""What to do, where the core is waited for, with its event: the tag of what was asked for."""

HOLD_S: Final = 0.001
"""How long what may wait for company waits for it."""

NAP_S: Final = 0.0003
"""How often a loop that waits for the queue looks at it meanwhile: being woken for each of the
company costs a loop more than taking it."""

STEPS: Final = 8
"""Turns of the loop from messages that came together to their answers: asking the core in between
costs more than most of them."""

_OK: Final = cygrpc.CallError.ok
_QUEUE_SHUTDOWN: Final = cygrpc.CompletionType.queue_shutdown
_QUEUE_TIMEOUT: Final = cygrpc.CompletionType.queue_timeout


@final
class Completions:
    """A completion queue, its thread, and a way from there into the event loop.

    Events that come while the loop is busy wake it once for all of them. While calls come, the
    thread rests and a ``CoreLoop`` waits for the queue itself. It is woken by a question about
    some call that asks for nothing, to which the core answers at once.
    """

    def __init__(self) -> None:
        self.queue = cygrpc.CompletionQueue()
        self._loop = asyncio.get_running_loop()
        self._handed: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._due: float | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self._waits = self._loop.waits if isinstance(self._loop, CoreLoop) else None
        self._some_call: Any = None
        self._is_ours = threading.Event()
        self._is_in_loop = False
        self._is_staying = False
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
        """Have the event loop do something soon, in the order of such calls.

        From where the core is waited for, or from the loop.
        """
        self._handed.append(step)
        self._wake()

    def hold(self, step: Callable[[], None]) -> None:
        """Have the loop do something when it is woken for more, or ``HOLD_S`` later.

        From where the core is waited for. A message that waits for others costs a part of what one
        by itself does.
        """
        self._handed.append(step)
        if not self._is_woken and self._due is None:
            self._due = time.monotonic() + HOLD_S

    def rest(self) -> None:
        """Look for no events while what came together is worked at; in the loop.

        Not for calls by themselves: others that come meanwhile would be theirs to be judged with.
        """
        if self._waits is not None:
            self._waits.passes = STEPS

    def came(self, call: Any) -> None:  # noqa: ANN401  # the core's
        """Note that there is a call, by which a loop that waits for the queue can be woken."""
        if self._waits is not None and not self._is_staying:
            self._some_call = call

    def stay(self) -> None:
        """Have the thread wait from now on, and keep no call; in the loop."""
        self._is_staying = True
        if self._waits is not None and self._waits.source is self:
            self._waits.give_back()
        self._some_call = None

    async def close(self) -> None:
        """Take no further questions, and wait until all that was asked for has come."""
        self.stay()
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self.queue.shutdown()
        await asyncio.to_thread(self._thread.join)

    def next(self, seconds: float) -> Any:  # noqa: ANN401  # the core's
        """Return the next event, waiting for so long in the loop; None if none comes."""
        due = self._due
        if seconds > 0 and due is not None:
            time.sleep(max(min(seconds, NAP_S, due - time.monotonic()), 0.0))
            seconds = 0.0
        event = self.queue.poll(time.time() + seconds if seconds > 0 else 0.0)
        return None if event.completion_type == _QUEUE_TIMEOUT else event

    def handle(self, event: Any) -> None:  # noqa: ANN401  # the core's
        """Do what an event is the answer to, and note for the loop what it hands it."""
        self._is_in_loop = True
        try:
            event.tag(event)
        except Exception:
            log.exception("an event of gRPC's core could not be handled")
        finally:
            self._is_in_loop = False

    def settle(self) -> None:
        """Do what was handed to the loop, in the loop."""
        if self._is_woken or (self._due is not None and time.monotonic() >= self._due):
            self._take()

    def wake(self) -> None:
        """Have the loop, which waits for the queue, wait no longer."""
        call = self._some_call
        if call is not None:
            try:
                self.ask(call, (), _nothing)
            except ValueError:
                # It wakes by itself before long, and who wakes it has other things to do.
                log.exception("the event loop cannot be woken by gRPC's core")

    def give_back(self) -> None:
        """Let the thread wait again."""
        self._some_call = None
        self._is_ours.set()

    def _wake(self) -> None:
        self._due = None
        if not self._is_woken:
            self._is_woken = True
            if not self._is_in_loop:
                self._speak(self._take)

    def _speak(self, step: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            self._loop.call_soon_threadsafe(step)

    def _take(self) -> None:
        # Before they are counted: what is handed from here on wakes the loop again.
        self._is_woken = False
        self._due = None
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
            if self._some_call is not None and self._waits is not None and self._waits.is_free:
                self._is_ours.clear()
                self._speak(self._offer)
                self._is_ours.wait()

    def _offer(self) -> None:
        """Have the loop wait for the queue, while the thread rests."""
        if self._is_staying or self._waits is None or not self._waits.take(self):
            self.give_back()

    def _until(self) -> float | None:
        """Return when to wait no longer, by the system's clock as the core wants it."""
        due = self._due
        return None if due is None else time.time() + max(due - time.monotonic(), 0.0)


def _nothing(_event: object) -> None:
    """Do nothing: the queue was to bring something."""


def wake(waiting: asyncio.Future[None]) -> None:
    """Let what waits go on, unless it was cancelled meanwhile."""
    if not waiting.done():
        waiting.set_result(None)
