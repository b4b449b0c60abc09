"""Aliases that were moved elsewhere: by another replica, or by an operator on the command line."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final, final

from mad.audit import AuditLog
from mad.baseline.pointer import Alias
from mad.errors import MadError
from mad.service.promotion.loading import Loading

log = logging.getLogger(__name__)

MAX_WAIT_S: Final = 60.0
"""What cannot be loaded is tried again ever more rarely, but no more rarely than this."""


@final
@dataclass(frozen=True, slots=True)
class _Failed:
    version: int | None
    reason: str
    wait_s: float
    until: float


@final
class Following:
    """Looks at the store now and then, and loads what its aliases point at.

    A version that cannot be loaded leaves what scores as it is; it is logged, counted and tried
    again.
    """

    def __init__(self, loading: Loading, audit: AuditLog, *, poll_s: float) -> None:
        self._loading = loading
        self._audit = audit
        self._poll_s = poll_s
        self._asked = asyncio.Event()
        self._failed: dict[tuple[str, Alias], _Failed] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, in the running event loop; the first look is at once."""
        self._asked.set()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def ask(self) -> None:
        """Look soon, also at what failed before."""
        self._failed.clear()
        self._asked.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._poll_s)
            self._asked.clear()
            names = {one.baseline.manifest.name for one in self._loading.registry.monitors}
            default = self._loading.registry.default.baseline.manifest.name
            for name in names:
                await self._follow(name, "active")
            await self._follow(default, "shadow")

    async def _follow(self, name: str, alias: Alias) -> None:
        version: int | None = None
        try:
            async with self._loading.changing:
                version = await self._wanted(name, alias)
                if version == self._loading.version(name, alias) or self._waits(
                    name, alias, version
                ):
                    return
                await self._load(name, alias, version)
                await self._record(name, alias, version)
        except Exception as error:  # noqa: BLE001  # told by _fail, and what scores goes on
            self._fail(name, alias, version, error)
        else:
            self._failed.pop((name, alias), None)
            self._loading.metrics.promotion.followed(alias, "loaded")
            fields = {"baseline": name, "alias": alias, "version": version}
            log.info("baseline followed: %s", fields, extra=fields)

    async def _wanted(self, name: str, alias: Alias) -> int | None:
        pointer = await asyncio.to_thread(self._loading.store.pointer, name, alias)
        active = self._loading.version(name, "active")
        if alias == "active":
            return active if pointer.version is None else pointer.version
        return None if pointer.version == active else pointer.version

    async def _load(self, name: str, alias: Alias, version: int | None) -> None:
        candidate = None if version is None else await self._loading.load(name, version)
        self._loading.put(alias, candidate)

    async def _record(self, name: str, alias: Alias, version: int | None) -> None:
        # Whoever moved it is not known here.
        subject = "none" if version is None else f"{name}@{version}"
        await asyncio.to_thread(
            self._audit.append,
            "baseline.followed",
            principal="",
            subject=subject,
            fields={"alias": alias},
        )

    def _waits(self, name: str, alias: Alias, version: int | None) -> bool:
        failed = self._failed.get((name, alias))
        return failed is not None and failed.version == version and monotonic() < failed.until

    def _fail(self, name: str, alias: Alias, version: int | None, error: Exception) -> None:
        before = self._failed.get((name, alias))
        is_news = before is None or (before.version, before.reason) != (version, str(error))
        wait_s = self._poll_s if before is None or is_news else min(2 * before.wait_s, MAX_WAIT_S)
        self._failed[name, alias] = _Failed(version, str(error), wait_s, monotonic() + wait_s)
        self._loading.metrics.promotion.followed(alias, "failed")
        if is_news:
            fields = {"baseline": name, "alias": alias, "version": version}
            trace = None if isinstance(error, MadError) else error
            log.error("baseline not followed: %s: %s", fields, error, extra=fields, exc_info=trace)
