"""One thread that does queued jobs in groups: what waits while it is busy is its next group."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar, final

from mad.errors import ShuttingDownError

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class _Ticket(Generic[Job, Answer]):
    job: Job
    answer: asyncio.Future[Answer]


@final
class Worker(Generic[Job, Answer]):
    """Runs one group of jobs at a time in its own thread; no timer holds a group back.

    ``choose`` picks the next group from the waiting jobs, oldest first, and always takes the
    oldest. ``work`` does a group in the thread and returns an answer, or the error, for each job.
    ``refuse`` looks at each job before it is chosen from; one that gets an error is not done.
    """

    def __init__(
        self,
        name: str,
        *,
        choose: Callable[[Iterable[Job]], Sequence[Job]],
        work: Callable[[Sequence[Job]], Sequence[Answer | Exception]],
        refuse: Callable[[Job], Exception | None] = lambda _: None,
    ) -> None:
        self._choose = choose
        self._work = work
        self._refuse = refuse
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: dict[Job, _Ticket[Job, Answer]] = {}
        self._arrived = asyncio.Event()
        self._closing = False
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._loop = asyncio.create_task(self._run())

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
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[job] = _Ticket(job, answer)
        self._arrived.set()
        return answer

    async def close(self) -> None:
        """Refuse new jobs, finish those that wait, end the thread."""
        self._closing = True
        self._arrived.set()
        if self._loop is not None:
            await self._loop
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        while True:
            while group := self._take():
                await self._do(group)
            if self._closing:
                return
            await self._arrived.wait()
            self._arrived.clear()

    def _take(self) -> Sequence[_Ticket[Job, Answer]]:
        wanted = self._wanted()
        if (first := next(wanted, None)) is None:
            return []
        return [self._waiting.pop(job) for job in self._chosen(first, wanted)]

    def _chosen(self, first: Job, others: Iterator[Job]) -> Sequence[Job]:
        try:
            return self._choose(chain([first], others))
        except Exception:
            # The thread must go on: jobs that nobody does would wait for ever.
            log.exception("jobs cannot be chosen from; the oldest is done alone")
            return [first]

    def _wanted(self) -> Iterator[Job]:
        for ticket in tuple(self._waiting.values()):
            # A cancelled caller has given up its ticket before it gets to run and withdraw its job.
            if ticket.answer.done():
                continue
            if error := self._refuse(ticket.job):
                del self._waiting[ticket.job]
                ticket.answer.set_exception(error)
                continue
            yield ticket.job

    async def _do(self, group: Sequence[_Ticket[Job, Answer]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            jobs = [ticket.job for ticket in group]
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._thread, self._work, jobs)
        except Exception as error:
            log.exception("a group of jobs failed")
            answers = [error] * len(group)
        for ticket, answer in zip(group, answers, strict=True):
            if ticket.answer.done():
                continue
            if isinstance(answer, Exception):
                ticket.answer.set_exception(answer)
            else:
                ticket.answer.set_result(answer)
