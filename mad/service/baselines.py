"""The baseline servicer: what is in the store, fits, and what becomes active."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import final

from mad.baseline.pointer import ALIASES, Alias, Expected
from mad.baseline.store import BaselineStore, Entry, parse_revision
from mad.errors import InputError
from mad.promotion import Gate
from mad.service import convert
from mad.service.calls import Context
from mad.service.fit_jobs.fits import Fits
from mad.service.promotion.promoting import Promoting
from mad.service.registry import Registry
from mad.v1 import baselines_pb2 as pb, baselines_pb2_grpc as rpc


@final
@dataclass(frozen=True)
class BaselineServicer(rpc.BaselineServiceServicer):
    """Answers for versions and aliases, and hands fits on."""

    store: BaselineStore
    registry: Registry
    fits: Fits
    promoting: Promoting

    async def ListBaselines(
        self, request: pb.ListBaselinesRequest, context: Context
    ) -> pb.ListBaselinesResponse:
        """Return every version by name, newest first; none for a name that is not there."""
        # All are read and then filtered: a name from a request never becomes a path.
        entries = await asyncio.to_thread(self.store.entries)
        return pb.ListBaselinesResponse(
            baselines=(
                self._message(entry)
                for entry in entries
                if request.name in ("", entry.manifest.name)
            )
        )

    async def GetBaseline(
        self, request: pb.GetBaselineRequest, context: Context
    ) -> pb.GetBaselineResponse:
        """Return one version, the active one of a name alone."""
        name, version = parse_revision(request.revision)
        entry = await asyncio.to_thread(self._entry, name, version)
        return pb.GetBaselineResponse(baseline=self._message(entry))

    async def EvaluateBaseline(
        self, request: pb.EvaluateBaselineRequest, context: Context
    ) -> pb.EvaluateBaselineResponse:
        """Hold a version against the gates of promotion."""
        found = await self.promoting.examine(request.revision)
        return pb.EvaluateBaselineResponse(
            gates=map(_gate, found.gates),
            is_promotable=all(gate.is_passed for gate in found.gates),
            active_revision=found.active,
        )

    async def PromoteBaseline(
        self, request: pb.PromoteBaselineRequest, context: Context
    ) -> pb.PromoteBaselineResponse:
        """Point an alias at a version that passes every gate."""
        alias = _alias(request.alias)
        name, _ = parse_revision(request.revision)
        moved = await self.promoting.promote(
            request.revision, alias, _expected(request.expected_revision, name)
        )
        return pb.PromoteBaselineResponse(
            baseline=self._message(moved.entry),
            previous_revision=moved.previous,
            gates=map(_gate, moved.gates),
        )

    async def RollbackBaseline(
        self, request: pb.RollbackBaselineRequest, context: Context
    ) -> pb.RollbackBaselineResponse:
        """Point ``active`` at the version before."""
        name = request.name or self.registry.default.baseline.manifest.name
        expected = _expected(request.expected_revision, name)
        moved = await self.promoting.go_back(name, expected)
        return pb.RollbackBaselineResponse(
            baseline=self._message(moved.entry), previous_revision=moved.previous
        )

    async def DeleteBaseline(
        self, request: pb.DeleteBaselineRequest, context: Context
    ) -> pb.DeleteBaselineResponse:
        """Remove a version that no alias points at."""
        await self.promoting.delete(request.revision)
        return pb.DeleteBaselineResponse()

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

    def _entry(self, name: str, version: int | None) -> Entry:
        number = self.store.active(name) if version is None else version
        return self.store.entry(name, number)

    def _message(self, entry: Entry) -> pb.Baseline:
        shadow = self.registry.shadow
        monitors = (*self.registry.monitors, *([shadow] if shadow else []))
        loaded = {monitor.baseline.revision for monitor in monitors}
        return convert.baseline(entry, is_loaded=entry.manifest.revision in loaded)


def _alias(text: str) -> Alias:
    for alias in ALIASES:
        if text in (alias, "" if alias == "active" else alias):
            return alias
    raise InputError(f"alias is {text[:80]!r}; use one of {', '.join(ALIASES)}")


def _expected(text: str, name: str) -> Expected:
    if text in ("", "none"):
        return "none" if text else "any"
    expected, version = parse_revision(text)
    if expected != name or version is None:
        raise InputError(
            f"expected_revision is {text[:80]!r}; write {name}@version, none, or leave it empty"
        )
    return version


def _gate(gate: Gate) -> pb.Gate:
    return pb.Gate(
        name=gate.name,
        is_passed=gate.is_passed,
        value=gate.value,
        bound=gate.bound,
        detail=gate.sentence,
    )
