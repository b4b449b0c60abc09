"""Trusted arrays in, a job out; and what becomes of it."""

import asyncio
import hashlib
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from mad.client.messages import TensorLike, tensor
from mad.errors import InputError
from mad.v1 import baselines_pb2 as pb, baselines_pb2_grpc as rpc, tensor_pb2

if TYPE_CHECKING:
    from mad.v1.baselines_pb2_grpc import BaselineServiceAsyncStub

FitJob: TypeAlias = pb.FitJob
CHUNK_BYTES: Final = 1024 * 1024
"""About how much one message of a fit carries."""
POLL_S: Final = 1.0
ENDED: Final = frozenset(
    {pb.FIT_JOB_STATE_CANDIDATE, pb.FIT_JOB_STATE_FAILED, pb.FIT_JOB_STATE_CANCELLED}
)
"""States of a job of which nothing more will come."""

TrustedInputs: TypeAlias = Mapping[str, TensorLike] | Iterable[Mapping[str, TensorLike]]
"""Named arrays of one batch size; or several such, one after the other, read as they are sent."""


@final
@dataclass(frozen=True)
class FitCalls:
    """Fits of a running server. ``timeout_s`` is for every call but ``send``, which may be long."""

    stub: rpc.BaselineServiceStub
    timeout_s: float

    def send(
        self,
        inputs: TrustedInputs,
        config: pb.FitConfig | None = None,
        *,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> pb.FitJob:
        """Send trusted inputs, and return the job once they are durable; ``fit_config`` says more.

        A stream that broke off left nothing behind. Sent again with the same config, it becomes the
        job that it may already have become.
        """
        steps = fit_steps(inputs, config or fit_config(), chunk_bytes=chunk_bytes)
        return self.stub.FitBaseline(steps).job

    def job(self, job_id: str) -> pb.FitJob:
        """Return one job."""
        return self.stub.GetFitJob(pb.GetFitJobRequest(job_id=job_id), timeout=self.timeout_s).job

    def jobs(self, baseline: str = "") -> pb.ListFitJobsResponse:
        """Return the jobs of one baseline, or of all, newest first."""
        message = pb.ListFitJobsRequest(baseline=baseline)
        return self.stub.ListFitJobs(message, timeout=self.timeout_s)

    def cancel(self, job_id: str) -> pb.FitJob:
        """End a job that has not ended, and return what it is now."""
        message = pb.CancelFitJobRequest(job_id=job_id)
        return self.stub.CancelFitJob(message, timeout=self.timeout_s).job

    def wait(self, job_id: str, *, poll_s: float = POLL_S) -> pb.FitJob:
        """Wait until a job has ended, and return it."""
        while (job := self.job(job_id)).state not in ENDED:
            time.sleep(poll_s)
        return job


@final
@dataclass(frozen=True)
class AsyncFitCalls:
    """The same as ``FitCalls``, for asyncio."""

    stub: "BaselineServiceAsyncStub"
    timeout_s: float

    async def send(
        self,
        inputs: TrustedInputs,
        config: pb.FitConfig | None = None,
        *,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> pb.FitJob:
        """Send trusted inputs, and return the job once they are durable; ``fit_config`` says more.

        A stream that broke off left nothing behind. Sent again with the same config, it becomes the
        job that it may already have become.
        """
        steps = fit_steps(inputs, config or fit_config(), chunk_bytes=chunk_bytes)
        return (await self.stub.FitBaseline(steps)).job

    async def job(self, job_id: str) -> pb.FitJob:
        """Return one job."""
        message = pb.GetFitJobRequest(job_id=job_id)
        return (await self.stub.GetFitJob(message, timeout=self.timeout_s)).job

    async def jobs(self, baseline: str = "") -> pb.ListFitJobsResponse:
        """Return the jobs of one baseline, or of all, newest first."""
        message = pb.ListFitJobsRequest(baseline=baseline)
        return await self.stub.ListFitJobs(message, timeout=self.timeout_s)

    async def cancel(self, job_id: str) -> pb.FitJob:
        """End a job that has not ended, and return what it is now."""
        message = pb.CancelFitJobRequest(job_id=job_id)
        return (await self.stub.CancelFitJob(message, timeout=self.timeout_s)).job

    async def wait(self, job_id: str, *, poll_s: float = POLL_S) -> pb.FitJob:
        """Wait until a job has ended, and return it."""
        while (job := await self.job(job_id)).state not in ENDED:
            await asyncio.sleep(poll_s)
        return job


def fit_config(
    *,
    name: str = "",
    source: str = "",
    request_id: str = "",
    false_alarm_rate: float = 0.0,
    seed: int | None = None,
) -> pb.FitConfig:
    """Say what is to be fitted; it gets an id if it is given none, so that it can be sent again."""
    return pb.FitConfig(
        name=name,
        source=source,
        request_id=request_id or uuid.uuid4().hex,
        false_alarm_rate=false_alarm_rate,
        seed=seed,
    )


def fit_steps(
    inputs: TrustedInputs, config: pb.FitConfig, *, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[pb.FitBaselineRequest]:
    """Yield the config, the inputs in chunks of about ``chunk_bytes``, and the commit to them.

    Raises InputError for arrays that the wire cannot carry, or of several batch sizes.
    """
    yield pb.FitBaselineRequest(config=config)
    sha = hashlib.sha256()
    sequence = count = 0
    for part in [inputs] if isinstance(inputs, Mapping) else inputs:
        for chunk in _chunks(part, chunk_bytes):
            sequence += 1
            count += chunk[0].shape[0]
            for one in chunk:
                sha.update(one.data)
            yield pb.FitBaselineRequest(chunk=pb.FitChunk(sequence=sequence, inputs=chunk))
    yield pb.FitBaselineRequest(commit=pb.FitCommit(inputs=count, digest=sha.hexdigest()))


def job_state(job: pb.FitJob) -> str:
    """Name the state of a job, such as candidate; or its bare number, as ``term``."""
    known = pb.FitJobState.DESCRIPTOR.values_by_number.get(job.state)
    return known.name.removeprefix("FIT_JOB_STATE_").lower() if known else str(job.state)


def _chunks(
    inputs: Mapping[str, TensorLike], chunk_bytes: int
) -> Iterator[list[tensor_pb2.Tensor]]:
    """Cut named arrays into some rows each, in the order of their names."""
    whole = sorted((tensor(*pair) for pair in inputs.items()), key=lambda one: one.name)
    sizes = {one.name: one.shape[0] if one.shape else 0 for one in whole}
    if len(set(sizes.values())) != 1:
        raise InputError(f"trusted inputs differ in batch size: {sizes}")
    total = next(iter(sizes.values()))
    if not total:
        return
    row_bytes = {one.name: len(one.data) // total for one in whole}
    rows = max(1, math.floor(chunk_bytes / max(1, sum(row_bytes.values()))))
    for start in range(0, total, rows):
        stop = min(start + rows, total)
        yield [
            tensor_pb2.Tensor(
                name=one.name,
                data_type=one.data_type,
                shape=[stop - start, *one.shape[1:]],
                data=one.data[start * row_bytes[one.name] : stop * row_bytes[one.name]],
            )
            for one in whole
        ]
