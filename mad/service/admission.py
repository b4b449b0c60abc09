"""What is taken on: as much as is answered before its caller stops waiting, and no more.

The wait is estimated from what waits, what is under way, and how long runs of the model take.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, final

from mad.errors import ExpiredError, OverloadedError
from mad.metrics import Metrics
from mad.service.pace import Pace
from mad.service.shares import Shares

HEADROOM: Final = 2.0
"""An answer must be expected in this part of the time left, or it is late as soon as one run is
slow. A shorter queue costs nothing: a queue that is never empty keeps the model as busy."""
MIN_RETRY_S: Final = 0.01


@dataclass(kw_only=True, eq=False)
class Job:
    """Work for the model's thread, of ``inputs`` inputs; one that is ``alone`` shares no run.

    ``deadline`` is when its caller stops waiting, on the monotonic clock.
    """

    inputs: int
    deadline: float
    alone: str = ""
    is_wanted: bool = field(default=True, init=False)
    is_taken: bool = field(default=False, init=False)
    expected_s: float = field(default=0.0, init=False)
    caller: str | None = field(default=None, init=False)


@final
class Admission:
    """Admits jobs, and knows how long they take and which are not worth doing any more."""

    def __init__(
        self,
        *,
        max_batch: int,
        max_queued_inputs: int,
        shares: Shares,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_batch = max_batch
        self._max_queued = max_queued_inputs
        self._shares = shares
        self._metrics = metrics
        self._clock = clock
        self._pace = Pace()
        self._alone: dict[str, Pace] = {}
        self._accepted = 0
        self._waiting = 0
        self._alone_waiting: dict[Job, float] = {}
        self._busy_until = 0.0

    def admit(self, job: Job) -> None:
        """Hold a place for a job, until it is released.

        Raises ExpiredError for a deadline that has passed, and OverloadedError for a full queue, a
        deadline that would pass first, or a caller that has its share.
        """
        if job.alone:
            job.expected_s = self._alone_pace(job.alone).seconds(job.inputs)
        now = self._clock()
        wait_s = self._wait_s(job, now)
        self._check_room(job, wait_s)
        self._check_time(job, wait_s, now)
        job.caller = self._shares.take(job.inputs)
        self._count(job.inputs)
        self._wait(job)

    def release(self, job: Job) -> None:
        """Give up a job's place: its caller has its answer, or has left."""
        job.is_wanted = False
        self._count(-job.inputs)
        if not job.is_taken:
            self._leave(job)
        self._shares.give_back(job.caller)

    def check(self, job: Job) -> None:
        """Raise ExpiredError where nobody waits for a job any more."""
        if not job.is_wanted or self._clock() >= job.deadline:
            raise ExpiredError("the deadline passed before the answer; allow more time")

    def company(self, first: Job, others: Iterator[Job]) -> list[Job]:
        """Return what runs with the oldest job: what fits, and makes none late that is in time."""
        chosen, size = [first], first.inputs
        second = next(others, None)
        if second is None:
            return chosen
        now = self._clock()
        limit = first.deadline if self._ends(now, size) <= first.deadline else math.inf
        for job in chain([second], others):
            if size >= self._max_batch:
                break
            ends = self._ends(now, size + job.inputs)
            if size + job.inputs > self._max_batch or ends > limit:
                continue
            chosen.append(job)
            size += job.inputs
            if ends <= job.deadline:
                limit = min(limit, job.deadline)
        return chosen

    def take(self, jobs: Sequence[Job]) -> None:
        """Note that the model's thread begins with some jobs."""
        for job in jobs:
            job.is_taken = True
            self._leave(job)
        self._busy_until = self._clock() + self.expected_s(jobs)

    def expected_s(self, jobs: Sequence[Job]) -> float:
        """Return how long some jobs take, one after the other but for those that share runs."""
        together = sum(job.inputs for job in jobs if not job.alone)
        return sum(job.expected_s for job in jobs) + self._seconds(together)

    def end(self) -> None:
        """Note that the model's thread is free."""
        self._busy_until = 0.0

    @contextmanager
    def timed(self, inputs: int, *, alone: str = "") -> Iterator[None]:
        """Learn from one run of the model, or of something else, that does not fail."""
        start = self._clock()
        yield
        seconds = self._clock() - start
        pace = self._alone_pace(alone) if alone else self._pace
        pace.observe(inputs, seconds)

    def _wait_s(self, job: Job, now: float) -> float:
        """Return when a job would be done; 0 for a server that is idle.

        An idle server always works: else one slow run could have it refuse everything for ever.
        """
        busy_s = max(self._busy_until - now, 0.0)
        if not (busy_s or self._waiting or self._alone_waiting):
            return 0.0
        alone_s = sum(self._alone_waiting.values()) + job.expected_s
        own = 0 if job.alone else job.inputs
        return busy_s + alone_s + self._seconds(self._waiting + own)

    def _check_room(self, job: Job, wait_s: float) -> None:
        if self._accepted + job.inputs > self._max_queued:
            raise OverloadedError(
                f"{self._accepted} inputs wait and this server queues at most {self._max_queued}; "
                "retry later, or with fewer inputs",
                retry_after_s=wait_s + MIN_RETRY_S,
            )

    def _check_time(self, job: Job, wait_s: float, now: float) -> None:
        left_s = job.deadline - now
        if left_s <= 0:
            raise ExpiredError("the deadline has passed already; allow more time")
        if HEADROOM * wait_s > left_s:
            raise OverloadedError(
                f"an answer would take about {wait_s * 1000:.0f} ms and the deadline is in "
                f"{left_s * 1000:.0f} ms; retry later, or allow more time",
                reason="deadline",
                # As time passes, what waits and what is left shrink alike.
                retry_after_s=(HEADROOM * wait_s - left_s) / (HEADROOM - 1) + MIN_RETRY_S,
            )

    def _seconds(self, inputs: int) -> float:
        return self._pace.seconds(inputs, runs=math.ceil(inputs / self._max_batch))

    def _ends(self, now: float, inputs: int) -> float:
        return now + HEADROOM * self._seconds(inputs)

    def _alone_pace(self, kind: str) -> Pace:
        return self._alone.setdefault(kind, Pace())

    def _count(self, change: int) -> None:
        self._accepted += change
        self._metrics.queue_depth(self._accepted)

    def _wait(self, job: Job) -> None:
        if job.alone:
            self._alone_waiting[job] = job.expected_s
        else:
            self._waiting += job.inputs

    def _leave(self, job: Job) -> None:
        if job.alone:
            del self._alone_waiting[job]
        else:
            self._waiting -= job.inputs
