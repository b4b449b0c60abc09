"""Promotion, rollback and deletion over the API: asked, examined, recorded, done."""

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, final

from mad.audit import AuditLog
from mad.baseline.pointer import Alias, Expected, Pointer
from mad.baseline.store import Entry, parse_revision
from mad.errors import BaselineNotFoundError, ConflictError, GateError
from mad.monitor import Monitor
from mad.promotion import Bounds, Exam, Gate, judged, refuse, slices
from mad.service.caller import caller
from mad.service.promotion.following import Following
from mad.service.promotion.loading import Candidate, Loading

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@final
@dataclass(frozen=True, kw_only=True)
class PromotionPlan:
    """What a candidate is examined on and held against, and how often the store is looked at."""

    exam: Exam = field(default_factory=Exam)
    bounds: Bounds = field(default_factory=Bounds)
    poll_s: float = 2.0


@final
@dataclass(frozen=True, slots=True)
class Examined:
    """What the gates say of a version, and the version it was held against, empty for none."""

    gates: tuple[Gate, ...]
    active: str


@final
@dataclass(frozen=True, slots=True)
class Moved:
    """A version as an alias points at it now, and the revision it pointed at before, or nothing."""

    entry: Entry
    previous: str
    gates: tuple[Gate, ...] = ()


@final
class Promoting:
    """Moves aliases for callers. The model runs between batches of live traffic."""

    def __init__(self, plan: PromotionPlan, loading: Loading, audit: AuditLog) -> None:
        self._plan = plan
        self._loading = loading
        self._store = loading.store
        self._audit = audit
        self.following = Following(loading, audit, poll_s=plan.poll_s)

    async def examine(self, revision: str) -> Examined:
        """Hold a version against the gates; nothing is changed."""
        name, version = _numbered(revision)
        before = await asyncio.to_thread(self._store.pointer, name, "active")
        _, found = await self._examined(name, version, before)
        return found

    async def promote(self, revision: str, alias: Alias, expected: Expected) -> Moved:
        """Point an alias at a version that passes every gate.

        It is loaded and warm before the alias moves, and scores from then on. Raises GateError,
        ConflictError where the alias is not as expected or moves meanwhile, and what ``load`` does.
        """
        name, version = _numbered(revision)
        before = await asyncio.to_thread(self._store.pointer, name, alias)
        _check(name, alias, before, expected)
        active = before
        if alias != "active":
            active = await asyncio.to_thread(self._store.pointer, name, "active")
        candidate, found = await self._examined(name, version, active)
        try:
            refuse(revision, found.gates)
        except GateError:
            await self._record("baseline.refused", revision, _fields(alias, found.gates))
            raise
        after = before if before.version == version else before.moved_to(version)
        fields = _fields(alias, found.gates, previous=_revision(name, before))
        return await _finished(
            self._move("promote", name, alias, (before, after), candidate, fields), found.gates
        )

    async def go_back(self, name: str, expected: Expected) -> Moved:
        """Point ``active`` at what it pointed at before, unexamined; else raises as ``promote``."""
        name, version = parse_revision(
            name or self._loading.registry.default.baseline.manifest.name
        )
        if version is not None:
            raise BaselineNotFoundError(f"{name}@{version} names a version; write {name}")
        before = await asyncio.to_thread(self._store.pointer, name, "active")
        _check(name, "active", before, expected)
        after = await asyncio.to_thread(self._store.behind, name, before)
        assert after.version is not None
        candidate = await self._loading.load(name, after.version)
        fields = {"previous": _revision(name, before)}
        return await _finished(
            self._move("rollback", name, "active", (before, after), candidate, fields)
        )

    async def delete(self, revision: str) -> None:
        """Remove a version for good; ConflictError if an alias points at it."""
        name, version = _numbered(revision)
        await self._record("baseline.delete", revision, {})
        await asyncio.to_thread(self._store.delete, name, version)
        await self._record("baseline.deleted", revision, {})

    async def _examined(
        self, name: str, version: int, before: Pointer
    ) -> tuple[Candidate, Examined]:
        candidate = await self._loading.load(name, version)
        active = None if before.version is None else await self._active(name, before.version)
        seen = [
            await self._loading.run(look, kind="exam")
            for look in slices(self._plan.exam, candidate.monitor, active)
        ]
        gates = await asyncio.to_thread(
            judged,
            candidate.monitor.baseline,
            active.baseline if active else None,
            candidate.entry.provenance,
            seen,
            self._plan.bounds,
        )
        return candidate, Examined(gates, active.baseline.revision if active else "")

    async def _active(self, name: str, version: int) -> Monitor:
        """Return the active version: as it scores here, or else from the store."""
        for monitor in self._loading.registry.monitors:
            if monitor.baseline.revision == f"{name}@{version}":
                return monitor
        return (await self._loading.load(name, version)).monitor

    async def _move(  # what moves where, and what is recorded of it
        self,
        verb: str,
        name: str,
        alias: Alias,
        way: tuple[Pointer, Pointer],
        candidate: Candidate,
        fields: Mapping[str, object],
    ) -> Moved:
        before, after = way
        revision = candidate.entry.manifest.revision
        # Before it is done, since what cannot be recorded must not be done; then what came of it.
        await self._record(f"baseline.{verb}", revision, fields)
        async with self._loading.changing:
            if after is not before:
                await asyncio.to_thread(self._store.move, name, alias, before, after)
            self._loading.put(alias, candidate)
        await self._record(f"baseline.{verb}.done", revision, fields)
        log.info("alias moved", extra={"verb": verb, "alias": alias, "revision": revision})
        entry = await asyncio.to_thread(self._store.entry, name, candidate.entry.manifest.version)
        return Moved(entry, _revision(name, before))

    async def _record(self, event: str, subject: str, fields: Mapping[str, object]) -> None:
        principal = caller.get().name
        await asyncio.to_thread(
            self._audit.append, event, principal=principal, subject=subject, fields=fields
        )


async def _finished(work: Awaitable[Moved], gates: tuple[Gate, ...] = ()) -> Moved:
    """Wait for a change to be done; a caller that leaves does not leave it half done."""
    moved = await asyncio.shield(asyncio.ensure_future(work))
    return Moved(moved.entry, moved.previous, gates)


def _numbered(revision: str) -> tuple[str, int]:
    name, version = parse_revision(revision)
    if version is None:
        raise BaselineNotFoundError(f"{revision!r} names no version; write name@version")
    return name, version


def _check(name: str, alias: Alias, pointer: Pointer, expected: Expected) -> None:
    if not pointer.is_at(expected):
        wanted = expected if isinstance(expected, str) else f"{name}@{expected}"
        found = _revision(name, pointer) or "none"
        raise ConflictError(
            f"the {alias} version of {name!r} is {found}, not {wanted}; look at what has changed, "
            "and try again"
        )


def _revision(name: str, pointer: Pointer) -> str:
    return "" if pointer.version is None else f"{name}@{pointer.version}"


def _fields(alias: Alias, gates: Sequence[Gate], previous: str = "") -> Mapping[str, object]:
    told = {f"gate.{gate.name}": f"{gate.value:g} of {gate.bound:g}" for gate in gates}
    failed = ",".join(gate.name for gate in gates if not gate.is_passed)
    return {"alias": alias, "previous": previous, "failed": failed, **told}
