"""A client's stream of trusted inputs: checked, on disk as it comes, and then a job or nothing."""

import asyncio
import math
import re
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, final

from mad.audit import AuditLog
from mad.errors import InputError, OverloadedError, TooLargeError
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.service import convert
from mad.service.fit_jobs.book import JobBook, in_thread
from mad.service.fit_jobs.job import FitJob
from mad.service.fit_jobs.setup import FitSetup
from mad.service.fit_jobs.shelf import INPUTS
from mad.service.fit_jobs.spool import Spool
from mad.types import batch_size
from mad.v1 import baselines_pb2 as pb

IDLE_S: Final = 60.0
"""A stream that sends nothing for so long is ended: what it has sent takes room from others."""
MAX_SOURCE: Final = 256
MAX_REQUEST_ID: Final = 128
_MAX_RATE: Final = 0.5
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LEAVES_NOTHING: Final = "nothing of this stream is kept"


@final
@dataclass(frozen=True, kw_only=True)
class Intake:
    """Takes streams in, several at a time; ``held`` is how many bytes each of them has sent."""

    book: JobBook
    setup: FitSetup
    monitor: Callable[[], Monitor]
    audit: AuditLog
    metrics: Metrics
    clock: Callable[[], datetime]
    held: dict[str, int]

    async def take(self, steps: AsyncIterator[pb.FitBaselineRequest], *, principal: str) -> FitJob:
        """Return the job that a stream has become, durable.

        Raises InputError for what is not as it should be, TooLargeError beyond the limits,
        OverloadedError when others hold the room, ConflictError for a request id used before.
        """
        first = await _next(steps)
        if first is None or first.WhichOneof("step") != "config":
            raise InputError(f"a fit begins with its config; {_LEAVES_NOTHING}")
        job_id = uuid.uuid4().hex
        job = self._asked(first.config, job_id, principal)
        self.held[job_id] = 0
        kept = False
        try:
            directory = await in_thread(self.book.shelf.begin, job_id)
            spool = Spool(directory / INPUTS)
            commit = await self._spooled(steps, spool, job_id)
            job = await self._committed(commit, spool, job)
            kept = True
            # Not given up half-way by a caller that goes away now: it is a job, or it is dropped.
            return await asyncio.shield(self._added(job))
        finally:
            del self.held[job_id]
            if not kept:
                await in_thread(self.book.shelf.drop, job_id)

    async def _spooled(
        self, steps: AsyncIterator[pb.FitBaselineRequest], spool: Spool, job_id: str
    ) -> pb.FitCommit:
        """Take chunks in until the commit."""
        sequence = 0
        while (step := await _next(steps)) is not None:
            match step.WhichOneof("step"):
                case "chunk":
                    sequence += 1
                    if step.chunk.sequence != sequence:
                        raise InputError(
                            f"chunk {step.chunk.sequence} came where chunk {sequence} should have: "
                            f"send each once, in order; {_LEAVES_NOTHING}"
                        )
                    await in_thread(self._add, step.chunk, spool)
                    self.held[job_id] = spool.num_bytes
                    self._check_room(spool)
                case "commit":
                    return step.commit
                case other:
                    raise InputError(
                        f"after its config, a fit has chunks and a commit, and no {other}; "
                        f"{_LEAVES_NOTHING}"
                    )
        raise InputError(
            f"the stream ended after {sequence} chunks without its commit; {_LEAVES_NOTHING}"
        )

    def _add(self, chunk: pb.FitChunk, spool: Spool) -> None:
        try:
            inputs = convert.inputs(chunk.inputs)
        except InputError as error:
            raise InputError(f"chunk {chunk.sequence}: {error}") from error
        try:
            self.monitor().check(inputs)
        except InputError as error:
            self.metrics.fits.rejected("invalid", max(map(len, inputs.values())))
            raise InputError(f"chunk {chunk.sequence}: {error}; {_LEAVES_NOTHING}") from error
        if (total := spool.inputs + batch_size(inputs)) > self.setup.max_inputs:
            raise TooLargeError(
                f"with chunk {chunk.sequence} these are {total} inputs, and this server takes at "
                f"most {self.setup.max_inputs} a fit: send fewer, or raise fit.max_inputs"
            )
        spool.add(inputs)

    def _check_room(self, spool: Spool) -> None:
        if spool.num_bytes > self.setup.max_bytes:
            raise TooLargeError(
                f"these are {spool.num_bytes} bytes of inputs so far, and this server holds at "
                f"most {self.setup.max_bytes}: send fewer, or raise fit.max_bytes"
            )
        total = self.book.held_bytes + sum(self.held.values())
        if total > self.setup.max_bytes:
            raise OverloadedError(
                f"{total} bytes of trusted inputs wait for fits, and this server holds at most "
                f"{self.setup.max_bytes}; retry when the fits under way have ended"
            )

    async def _committed(self, commit: pb.FitCommit, spool: Spool, job: FitJob) -> FitJob:
        if commit.inputs != spool.inputs:
            raise InputError(
                f"the commit is of {commit.inputs} inputs, and {spool.inputs} came; "
                f"{_LEAVES_NOTHING}"
            )
        if commit.digest.lower() != spool.digest:
            raise InputError(
                f"the commit's digest is {commit.digest[:64]!r}, and what came has "
                f"{spool.digest}; {_LEAVES_NOTHING}"
            )
        if not spool.inputs:
            raise InputError("the commit is of no inputs; send trusted inputs first")
        await in_thread(spool.finish)
        return replace(
            job,
            digest=spool.digest,
            inputs=spool.inputs,
            num_bytes=spool.num_bytes,
            created=self.clock(),
        )

    async def _added(self, job: FitJob) -> FitJob:
        fields = {
            "baseline": job.baseline,
            "source": job.source,
            "inputs": job.inputs,
            "digest": job.digest,
        }
        record = partial(
            self.audit.append,
            "fit.committed",
            principal=job.principal,
            subject=job.job_id,
            fields=fields,
        )
        added = await self.book.add(job, record=record)
        if added is job:
            self.metrics.fits.came_to("queued")
        return added

    def _asked(self, config: pb.FitConfig, job_id: str, principal: str) -> FitJob:
        name = config.name or self.setup.baseline
        if not _NAME.fullmatch(name):
            raise InputError(f"baseline name {name[:80]!r} must match {_NAME.pattern}")
        _check_text("source", config.source, MAX_SOURCE)
        _check_text("request_id", config.request_id, MAX_REQUEST_ID)
        rate = config.false_alarm_rate
        if not (math.isfinite(rate) and 0 <= rate < _MAX_RATE):
            raise InputError(
                f"false_alarm_rate is {rate}; send one above 0 and below {_MAX_RATE}, or 0 for "
                "that of the server's settings"
            )
        if config.HasField("seed") and config.seed < 0:
            raise InputError(f"seed is {config.seed}; send one from 0")
        return FitJob(
            job_id=job_id,
            state="queued",
            baseline=name,
            request_id=config.request_id,
            principal=principal,
            source=config.source,
            digest="",
            inputs=0,
            num_bytes=0,
            false_alarm_rate=rate,
            seed=config.seed if config.HasField("seed") else None,
            created=self.clock(),
        )


async def _next(steps: AsyncIterator[pb.FitBaselineRequest]) -> pb.FitBaselineRequest | None:
    """Return the next step; None at the end of the stream."""
    try:
        async with asyncio.timeout(IDLE_S):
            return await anext(steps, None)
    except TimeoutError as error:
        raise InputError(
            f"nothing came for {IDLE_S:.0f} s; send what is left without a pause; {_LEAVES_NOTHING}"
        ) from error


def _check_text(name: str, text: str, longest: int) -> None:
    if len(text) > longest or not text.isprintable():
        raise InputError(
            f"{name} {text[:longest]!r} has {len(text)} characters; send at most {longest}, all "
            "printable"
        )
