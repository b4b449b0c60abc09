"""One thread that does queued jobs in groups: what waits while it is busy is its next group."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar, final

from mad.errors import ShuttingDownError

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Answer = TypeVar("Answer")

SHORT_S: Final = 0.0005
"""Groups that are expected to take no longer are waited for."""

PATIENCE_S: Final = 0.001
"""How long they are: one that hangs holds up nothing."""


@final
class Worker(Generic[Job, Answer]):
    """Runs one group of jobs at a time in its own thread; no timer holds a group back.

    ``choose`` picks the next group from the waiting jobs, oldest first, and always takes the
    oldest. ``work`` does a group in the thread and returns an answer, or the error, for each job.
    ``refuse`` looks at each job before it is chosen from; one that gets an error is not done.
    ``expected_s`` is about how long a chosen group will take.

    A group costs the event loop two callbacks and no task: an executor's future alone, at one call
    a group, is a good part of what a call costs. A short group is waited for where it is begun:
    being woken for it costs the loop more, and both threads want the interpreter meanwhile.
    """

    def __init__(
        self,
        name: str,
        *,
        choose: Callable[[Iterable[Job]], Sequence[Job]],
        work: Callable[[Sequence[Job]], Sequence[Answer | Exception]],
        refuse: Callable[[Job], Exception | None] = lambda _: None,
        expected_s: Callable[[Sequence[Job]], float] = lambda _: math.inf,
    ) -> None:
        self._name = name
        self._choose = choose
        self._work = work
        self._refuse = refuse
        self._expected_s = expected_s
        self._waiting: dict[Job, asyncio.Future[Answer]] = {}
        self._groups: SimpleQueue[Sequence[Job] | None] = SimpleQueue()
        self._answers: SimpleQueue[Sequence[Answer | Exception]] = SimpleQueue()
        self._is_awaited = False
        self._under_way: Sequence[asyncio.Future[Answer]] = ()
        self._is_due = False
        self._closing = False
        self._idle = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        # Nobody waits for it at exit: a worker that was not closed has nothing that must be done.
        self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        self._thread.start()
        self._wake()

    async def submit(self, job: Job) -> Answer:
        """Queue a job and wait for its answer.

        A cancelled caller's job is taken out of the queue; it is not run if it has not begun.
        Raises ShuttingDownError once the worker closes.
        """
        answer = self.enqueue(job)
        try:
            return await answer
        finally:
            self._waiting.pop(job, None)

    def enqueue(self, job: Job) -> asyncio.Future[Answer]:
        """Queue a job, which is compared by identity; raises as ``submit`` does."""
        if self._closing:
            raise ShuttingDownError("the server is shutting down; ask another replica")
        loop = self._loop or asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting[job] = answer
        self._wake()
        return answer

    async def close(self) -> None:
        """Refuse new jobs, finish those that wait, end the thread."""
        self._closing = True
        if self._thread is None:
            return
        self._wake()
        await self._idle.wait()
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    def _wake(self) -> None:
        """Begin a group soon, unless one is under way: it is when that ends."""
        if self._loop is None or self._is_due or self._under_way:
            return
        # Not at once, so that what arrives at the same time is one group.
        self._is_due = True
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        group = self._take()
        if group:
            self._under_way = [self._waiting.pop(job) for job in group]
            self._is_awaited = self._expected_s(group) <= SHORT_S
            self._groups.put(group)
            if self._is_awaited:
                self._await()
        elif self._closing:
            self._idle.set()

    def _await(self) -> None:
        """Wait for a group that has begun, but not for long."""
        try:
            answers = self._answers.get(timeout=PATIENCE_S)
        except Empty:
            self._is_awaited = False
            # What came before that was said, the thread tells nobody of.
            self._collect()
            return
        self._settle(answers)
        # After a turn of the loop, in which these answers go out.
        if self._waiting or self._closing:
            self._wake()

    def _collect(self) -> None:
        """Take the answers of a group that was not waited for, unless they were taken already."""
        try:
            answers = self._answers.get_nowait()
        except Empty:
            return
        self._settle(answers)
        self._begin()

    def _take(self) -> Sequence[Job]:
        wanted = self._wanted()
        if (first := next(wanted, None)) is None:
            return ()
        try:
            return self._choose(chain([first], wanted))
        except Exception:
            # The thread must go on: jobs that nobody does would wait for ever.
            log.exception("jobs cannot be chosen from; the oldest is done alone")
            return [first]

    def _wanted(self) -> Iterator[Job]:
        for job, answer in tuple(self._waiting.items()):
            # A cancelled caller has given up its future before it gets to run and withdraw its job.
            if answer.done():
                continue
            if error := self._refuse(job):
                del self._waiting[job]
                answer.set_exception(error)
                continue
            yield job

    def _serve(self) -> None:
        """Do one group after the other, in the thread."""
        assert self._loop is not None
        while group := self._groups.get():
            self._answers.put(self._done(group))
            if not self._is_awaited:
                with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._collect)

    def _done(self, group: Sequence[Job]) -> Sequence[Answer | Exception]:
        try:
            answers = self._work(group)
            assert len(answers) == len(group)
        except Exception as error:
            log.exception("a group of jobs failed")
            return [error] * len(group)
        return answers

    def _settle(self, answers: Sequence[Answer | Exception]) -> None:
        waiting, self._under_way = self._under_way, ()
        for future, answer in zip(waiting, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
