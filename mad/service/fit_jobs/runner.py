"""Runs jobs, one at a time, each in a process of its own that ends with this one."""

import asyncio
import json
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, final

from mad.audit import AuditLog
from mad.baseline.store import BaselineStore
from mad.errors import MadError
from mad.metrics import Metrics
from mad.service.fit_jobs.book import JobBook, in_thread
from mad.service.fit_jobs.job import FitJob, Stage, State
from mad.service.fit_jobs.process import Order
from mad.service.fit_jobs.setup import FitSetup

log = logging.getLogger(__name__)

_RETRY_S: Final = 5.0
_MODULE: Final = "mad.service.fit_jobs.process"
_KILLED: Final = (
    "the fit's process was killed by signal {}, as it is when memory runs out; send fewer inputs, "
    "or give the server more memory"
)
_BROKEN: Final = "the fit broke down; the server's log has the details"


@final
@dataclass(frozen=True)
class _Outcome:
    """What a process said last, and how it ended; no revision and no error if it said neither."""

    revision: str = ""
    quarantined: int = 0
    error: str = ""


@final
class FitRunner:
    """Takes the oldest job that has not ended, until ``close``.

    A job that is under way when the server ends, however it ends, is taken up by the next one.
    """

    def __init__(  # what a job needs, and who is told of it
        self,
        book: JobBook,
        setup: FitSetup,
        *,
        store: BaselineStore,
        metrics: Metrics,
        audit: AuditLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._book = book
        self._setup = setup
        self._store = store
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._closing = asyncio.Event()
        self._current = ""
        self._process: Process | None = None
        self._cancelling: dict[str, asyncio.Future[FitJob]] = {}
        self._loop = asyncio.create_task(self._run())

    async def cancel(self, job_id: str) -> FitJob:
        """End a job that has not ended; one that has stays as it is."""
        job = self._book.get(job_id)
        if job.has_ended:
            return job
        if self._current != job_id:
            return await self._ended(replace(job, state="cancelled", ended=self._clock()))
        loop = asyncio.get_running_loop()
        ended = self._cancelling.setdefault(job_id, loop.create_future())
        if self._process is not None:
            self._process.kill()
        return await asyncio.shield(ended)

    async def close(self) -> None:
        """Leave the job under way to the next server."""
        self._closing.set()
        self._book.arrived.set()
        if self._process is not None:
            self._process.kill()
        await self._loop
        for waiting in self._cancelling.values():
            waiting.cancel()

    async def _run(self) -> None:
        while not self._closing.is_set():
            job = self._book.next()
            if job is None:
                await self._book.arrived.wait()
                self._book.arrived.clear()
                continue
            self._current = job.job_id
            try:
                await self._do(job)
            except Exception as error:
                log.exception("fit job not run", extra={"job": job.job_id})
                await self._give_up(job, error)
            finally:
                self._current = ""

    async def _give_up(self, job: FitJob, error: Exception) -> None:
        """Wait, as when the disk is full, before another try; end a job that cannot be run."""
        if not isinstance(error, MadError):
            with suppress(MadError):  # then it is tried again
                await self._end(job, _Outcome(error=_BROKEN))
        try:
            async with asyncio.timeout(_RETRY_S):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _do(self, job: FitJob) -> None:
        job = await self._book.start(job.job_id, now=self._clock())
        if job.has_ended:
            return
        self._metrics.fits.came_to("running")
        began = time.monotonic()
        outcome = _Outcome() if job.job_id in self._cancelling else await self._fit(job)
        if job.job_id in self._cancelling:
            # It may have stored its version a moment ago; then that is what came of it.
            revision = outcome.revision or await in_thread(self._stored, job)
            ended = await self._end(job, _Outcome(revision), is_cancelled=True)
            self._cancelling.pop(job.job_id).set_result(ended)
        elif not self._closing.is_set():
            await self._end(job, outcome)
            self._metrics.fits.ran(time.monotonic() - began)

    async def _fit(self, job: FitJob) -> _Outcome:
        home = self._book.shelf.directory_of(job.job_id)
        order = Order(
            home=str(home),
            settings=dict(self._setup.settings),
            threads=self._setup.threads,
            quarantine_rate=self._setup.quarantine_rate,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C at a terminal is for the server, which drains
        )
        self._process = process
        try:
            if self._closing.is_set() or job.job_id in self._cancelling:
                process.kill()
            assert process.stdin is not None
            # Kept open: its end is how the process learns that the server is gone.
            process.stdin.write(order.line())
            said = await self._listen(job.job_id, process)
            status = await process.wait()
        finally:
            self._process = None
            if process.returncode is None:
                process.kill()
        if said.revision or said.error:
            return said
        return _Outcome(error=_BROKEN if status >= 0 else _KILLED.format(-status))

    async def _listen(self, job_id: str, process: Process) -> _Outcome:
        assert process.stdout is not None
        said = _Outcome()
        async for line in process.stdout:
            facts: dict[str, Any] = json.loads(line)
            if "stage" in facts:
                stage = Stage(facts["stage"], facts["done"], facts["total"])
                self._book.tell(job_id, stage)
            else:
                said = _Outcome(**facts)
        return said

    async def _end(self, job: FitJob, outcome: _Outcome, *, is_cancelled: bool = False) -> FitJob:
        without: State = "cancelled" if is_cancelled else "failed"
        made = replace(
            job,
            state="candidate" if outcome.revision else without,
            ended=self._clock(),
            revision=outcome.revision,
            quarantined=outcome.quarantined,
            error=outcome.error,
        )
        return await self._ended(made)

    async def _ended(self, job: FitJob) -> FitJob:
        ended = await self._book.end(job)
        if ended is not job:
            return ended
        # Before anything is waited for: whoever sees the state finds it counted.
        self._metrics.fits.came_to(job.state)
        self._metrics.fits.rejected("quarantined", job.quarantined)
        fields = {"state": job.state, "revision": job.revision, "quarantined": job.quarantined}
        log.info("fit job ended: %s", fields, extra={"job": job.job_id, **fields})
        record = partial(self._audit.append, "fit.ended", subject=job.job_id, fields=fields)
        await in_thread(partial(record, principal=job.principal))
        return ended

    def _stored(self, job: FitJob) -> str:
        for entry in self._store.entries(job.baseline):
            if entry.provenance.job_id == job.job_id:
                return entry.manifest.revision
        return ""
