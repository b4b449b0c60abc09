"""Files that say who may call: looked at now and then, and read again when they have changed."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, final

from mad.audit import AuditLog
from mad.errors import AuditError, ConfigError
from mad.metrics import Metrics

log = logging.getLogger(__name__)

_Signature: TypeAlias = tuple[tuple[int, int, int], ...]


@final
@dataclass(frozen=True)
class Watched:
    """Files that are read together; ``read`` puts them to use and returns their digest.

    It raises ConfigError, and changes nothing, when they cannot be used.
    """

    paths: Sequence[Path]
    read: Callable[[], str]


@final
class Reloading:
    """Reads each of its files again, in a thread, after they changed; every reload is on record."""

    def __init__(
        self, watched: Mapping[str, Watched], *, poll_s: float, audit: AuditLog, metrics: Metrics
    ) -> None:
        self._watched = watched
        self._poll_s = poll_s
        self._audit = audit
        self._metrics = metrics
        self._before = {what: _signature(one.paths) for what, one in watched.items()}
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, in the running event loop."""
        if self._watched:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop looking, once what is being read has been read."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _watch(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._closing.wait()
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        for what, watched in self._watched.items():
            now = _signature(watched.paths)
            if now != self._before[what]:
                self._before[what] = now
                self._reload(what, watched)

    def _reload(self, what: str, watched: Watched) -> None:
        try:
            facts = {"sha256": watched.read()}
        except ConfigError as error:
            log.error("reload failed: %s", error, extra={"what": what})  # noqa: TRY400
            self._metrics.security_reloaded(what, "failed")
            self._record(f"{what}.reload_failed", {"error": str(error)[:1000]})
        else:
            log.info("reloaded", extra={"what": what})
            self._metrics.security_reloaded(what, "ok")
            self._record(f"{what}.reload", facts)

    def _record(self, event: str, facts: Mapping[str, object]) -> None:
        try:
            self._audit.append(event, principal="", subject="security", fields=facts)
        except AuditError as error:
            self._metrics.audit_failed()
            log.error("a reload is not on record: %s", error)  # noqa: TRY400


def _signature(paths: Sequence[Path]) -> _Signature | None:
    """Return what changes when a file does; None while one is missing."""
    try:
        stats = [path.stat() for path in paths]
    except OSError:
        return None
    return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in stats)
