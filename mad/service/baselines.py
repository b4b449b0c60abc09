"""The baseline servicer: what is in the store, and what of it this server has loaded."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import final

from mad.baseline.store import BaselineStore
from mad.service import convert
from mad.service.calls import Context
from mad.service.fit_jobs.fits import Fits
from mad.service.registry import Registry
from mad.v1 import baselines_pb2 as pb, baselines_pb2_grpc as rpc


@final
@dataclass(frozen=True)
class BaselineServicer(rpc.BaselineServiceServicer):
    """Answers ListBaselines, and hands fits on."""

    store: BaselineStore
    registry: Registry
    fits: Fits

    async def ListBaselines(
        self, request: pb.ListBaselinesRequest, context: Context
    ) -> pb.ListBaselinesResponse:
        """Return every version by name, newest first; none for a name that is not there."""
        # All are read and then filtered: a name from a request never becomes a path.
        entries = await asyncio.to_thread(self.store.entries)
        loaded = {monitor.baseline.revision for monitor in self.registry.monitors}
        return pb.ListBaselinesResponse(
            baselines=(
                convert.baseline(entry, is_loaded=entry.manifest.revision in loaded)
                for entry in entries
                if request.name in ("", entry.manifest.name)
            )
        )

    async def FitBaseline(
        self, request_iterator: AsyncIterator[pb.FitBaselineRequest], context: Context
    ) -> pb.FitBaselineResponse:
        """Take trusted inputs, and return the job once they are durable."""
        return await self.fits.take(request_iterator)

    async def GetFitJob(
        self, request: pb.GetFitJobRequest, context: Context
    ) -> pb.GetFitJobResponse:
        """Return one job."""
        return self.fits.get(request)

    async def ListFitJobs(
        self, request: pb.ListFitJobsRequest, context: Context
    ) -> pb.ListFitJobsResponse:
        """Return every job that is remembered, newest first."""
        return self.fits.listed(request)

    async def CancelFitJob(
        self, request: pb.CancelFitJobRequest, context: Context
    ) -> pb.CancelFitJobResponse:
        """End a job that has not ended."""
        return await self.fits.cancel(request)
