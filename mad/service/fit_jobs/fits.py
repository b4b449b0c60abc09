"""Fitting as the servicer sees it: a stream becomes a job, jobs are looked up and cancelled."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, final

from mad.audit import AuditLog
from mad.baseline.store import BaselineStore
from mad.errors import ConfigError
from mad.metrics import Metrics
from mad.service import convert
from mad.service.caller import caller
from mad.service.fit_jobs.book import JobBook, in_thread
from mad.service.fit_jobs.intake import Intake
from mad.service.fit_jobs.job import FitJob, State
from mad.service.fit_jobs.runner import FitRunner
from mad.service.fit_jobs.setup import FitSetup
from mad.service.fit_jobs.shelf import Shelf
from mad.service.registry import Registry
from mad.v1 import baselines_pb2 as pb

_STATES: Final[Mapping[State, "pb.FitJobState.ValueType"]] = {
    "queued": pb.FIT_JOB_STATE_QUEUED,
    "running": pb.FIT_JOB_STATE_RUNNING,
    "candidate": pb.FIT_JOB_STATE_CANDIDATE,
    "failed": pb.FIT_JOB_STATE_FAILED,
    "cancelled": pb.FIT_JOB_STATE_CANCELLED,
}


@final
@dataclass(frozen=True)
class _Open:
    book: JobBook
    intake: Intake
    runner: FitRunner


@final
class Fits:
    """The fits of one server, from ``start`` to ``close``; without a setup there are none."""

    def __init__(  # what a fit needs, and who is told of it
        self,
        setup: FitSetup | None,
        *,
        registry: Registry,
        store: BaselineStore,
        metrics: Metrics,
        audit: AuditLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._setup = setup
        self._registry = registry
        self._store = store
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._open: _Open | None = None

    async def start(self) -> None:
        """Take up what an earlier server has left; ConfigError if another server has the jobs."""
        if self._setup is None:
            return
        shelf = await in_thread(Shelf.open, self._setup.directory)
        book = await in_thread(partial(JobBook, shelf, kept_jobs=self._setup.kept_jobs))
        intake = Intake(
            book=book,
            setup=self._setup,
            monitor=lambda: self._registry.resolve(""),
            audit=self._audit,
            metrics=self._metrics,
            clock=self._clock,
            held={},
        )
        runner = FitRunner(
            book,
            self._setup,
            store=self._store,
            metrics=self._metrics,
            audit=self._audit,
            clock=self._clock,
        )
        self._open = _Open(book, intake, runner)

    async def close(self) -> None:
        """Stop the fit under way; the next server goes on with it."""
        if self._open is not None:
            await self._open.runner.close()
            self._open.book.shelf.close()
            self._open = None

    async def take(self, steps: AsyncIterator[pb.FitBaselineRequest]) -> pb.FitBaselineResponse:
        """Answer FitBaseline; raises as ``Intake.take`` does."""
        job = await self._opened.intake.take(steps, principal=caller.get().name)
        return pb.FitBaselineResponse(job=self._message(job))

    def get(self, request: pb.GetFitJobRequest) -> pb.GetFitJobResponse:
        """Answer GetFitJob; NotFoundError for a job that is not remembered."""
        return pb.GetFitJobResponse(job=self._message(self._opened.book.get(request.job_id)))

    def listed(self, request: pb.ListFitJobsRequest) -> pb.ListFitJobsResponse:
        """Answer ListFitJobs."""
        newest_first = reversed(self._opened.book.jobs)
        return pb.ListFitJobsResponse(
            jobs=(
                self._message(job) for job in newest_first if request.baseline in ("", job.baseline)
            )
        )

    async def cancel(self, request: pb.CancelFitJobRequest) -> pb.CancelFitJobResponse:
        """Answer CancelFitJob; NotFoundError for a job that is not remembered."""
        job = self._opened.book.get(request.job_id)
        record = partial(
            self._audit.append, "fit.cancelled", principal=caller.get().name, subject=job.job_id
        )
        if not job.has_ended:
            await in_thread(record)
        return pb.CancelFitJobResponse(
            job=self._message(await self._opened.runner.cancel(job.job_id))
        )

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise ConfigError("this server takes no trusted data; ask one that runs fits")
        return self._open

    def _message(self, job: FitJob) -> pb.FitJob:
        assert self._open is not None
        stage = self._open.book.stage(job.job_id)
        return pb.FitJob(
            job_id=job.job_id,
            state=_STATES[job.state],
            baseline=job.baseline,
            revision=job.revision,
            provenance=pb.Provenance(
                principal=job.principal,
                source=job.source,
                data_digest=job.digest,
                inputs=job.inputs,
                quarantined_inputs=job.quarantined,
                job_id=job.job_id,
            ),
            create_time=convert.timestamp(job.created),
            start_time=convert.timestamp(job.started) if job.started else None,
            end_time=convert.timestamp(job.ended) if job.ended else None,
            stage=stage.name,
            done=stage.done,
            total=stage.total,
            error=job.error,
        )
