"""The jobs of one server: in memory to be looked up, on disk before anybody is told of them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final, TypeVar, final

from mad.errors import ConflictError, NotFoundError, OverloadedError
from mad.service.fit_jobs.job import FitJob, Stage
from mad.service.fit_jobs.shelf import Shelf

MAX_UNFINISHED: Final = 64
"""Jobs that wait or run; further ones are refused, however few inputs they have."""

Result = TypeVar("Result")


@final
class JobBook:
    """Jobs by id, oldest first. Changes are made in one event loop, one at a time."""

    def __init__(self, shelf: Shelf, *, kept_jobs: int) -> None:
        self.shelf = shelf
        self.arrived = asyncio.Event()
        self._kept_jobs = kept_jobs
        self._changing = asyncio.Lock()
        self._jobs = {job.job_id: job for job in shelf.jobs()}
        self._stages: dict[str, Stage] = {}
        for job in self._jobs.values():
            if job.has_ended:  # and a crash came before its inputs were removed
                shelf.clear(job.job_id)

    @property
    def jobs(self) -> list[FitJob]:
        """Every job that is remembered, oldest first."""
        return list(self._jobs.values())

    @property
    def held_bytes(self) -> int:
        """Bytes of trusted inputs that wait for their fit."""
        return sum(job.num_bytes for job in self._jobs.values() if not job.has_ended)

    def get(self, job_id: str) -> FitJob:
        """Return one job; NotFoundError if it is not remembered."""
        if job_id not in self._jobs:
            raise NotFoundError(
                f"there is no fit job {job_id[:80]!r} here; ListFitJobs names those that are kept"
            )
        return self._jobs[job_id]

    def stage(self, job_id: str) -> Stage:
        """Return what a job does now; empty unless it runs."""
        return self._stages.get(job_id, Stage())

    def tell(self, job_id: str, stage: Stage) -> None:
        """Note what a job does now."""
        self._stages[job_id] = stage

    def next(self) -> FitJob | None:
        """Return the oldest job that has not ended; None if all have."""
        return next((job for job in self._jobs.values() if not job.has_ended), None)

    def same(self, job: FitJob) -> FitJob | None:
        """Return the job that another stream with this request id has become; None if none has.

        Raises:
            ConflictError: it was of other data.
        """
        if not job.request_id:
            return None
        for other in self._jobs.values():
            if (other.principal, other.request_id) == (job.principal, job.request_id):
                if other.digest != job.digest or other.baseline != job.baseline:
                    raise ConflictError(
                        f"request_id {job.request_id!r} is that of job {other.job_id}, which has "
                        "other data or another baseline; send other data with another request_id"
                    )
                return other
        return None

    async def add(self, job: FitJob, *, record: Callable[[], object]) -> FitJob:
        """Make a stream a job, or drop it and return the job of its request id; both durable.

        ``record`` is called just before there is a new job. Raises as it does, ConflictError as
        ``same`` does, OverloadedError when too many jobs wait, ConfigError when the disk refuses;
        the stream is then dropped.
        """
        async with self._changing:
            try:
                same = self.same(job)
                if same is None:
                    self._check_room()
                    await in_thread(record)
                    await in_thread(self.shelf.keep, job)
            except BaseException:
                await in_thread(self.shelf.drop, job.job_id)
                raise
            if same is not None:
                await in_thread(self.shelf.drop, job.job_id)
                return same
            self._jobs[job.job_id] = job
        self.arrived.set()
        return job

    async def start(self, job_id: str, *, now: datetime) -> FitJob:
        """Let a job run, unless it has ended meanwhile; durable."""
        async with self._changing:
            job = self.get(job_id)
            if job.state == "queued":
                job = replace(job, state="running", started=now)
                await self._save(job)
            return job

    async def end(self, ended: FitJob) -> FitJob:
        """Say what has come of a job, unless it has ended before; durable. Its inputs are removed.

        So is all of the oldest of those that have ended, where too many have.
        """
        async with self._changing:
            job = self.get(ended.job_id)
            if job.has_ended:
                return job
            await self._save(ended)
            self._stages.pop(ended.job_id, None)
            await in_thread(self.shelf.clear, ended.job_id)
            over = [one for one in self._jobs.values() if one.has_ended]
            over.sort(key=lambda one: one.ended or one.created)
            for old in over[: -self._kept_jobs]:
                del self._jobs[old.job_id]
                await in_thread(self.shelf.remove, old.job_id)
            return ended

    async def _save(self, job: FitJob) -> None:
        await in_thread(self.shelf.save, job)
        self._jobs[job.job_id] = job

    def _check_room(self) -> None:
        if sum(not job.has_ended for job in self._jobs.values()) >= MAX_UNFINISHED:
            raise OverloadedError(
                f"{MAX_UNFINISHED} fits wait already; retry later, or cancel some"
            )


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run what waits for a disk elsewhere; who is cancelled waits until it has ended."""
    running = asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
