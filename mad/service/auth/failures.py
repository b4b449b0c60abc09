"""Refused calls, counted at once and put on record at a pace that cannot fill a disk."""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import Final, Literal, TypeAlias, final

from mad.audit import AuditLog
from mad.errors import AuditError
from mad.metrics import Metrics

log = logging.getLogger(__name__)

Reason: TypeAlias = Literal["missing", "malformed", "unknown", "certificate", "role", "no_row"]
"""Why: no token came; what came is no token; it, or the certificate, is nobody's; the caller lacks
the role; nobody has been given the method."""

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0


@final
class Failures:
    """Writes one record a kind of failure, with a count: at once, then ever more rarely.

    As long as calls are refused, the time between two records of one kind doubles from a second to
    a minute: three hours of an attack are some 200 records a kind. What cannot be written is kept
    for the next time; a crash loses what was counted since the last.
    """

    def __init__(self, audit: AuditLog, metrics: Metrics) -> None:
        self._audit = audit
        self._metrics = metrics
        self._pending: Counter[tuple[str, Reason, str]] = Counter()
        self._closing = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def note(self, principal: str, reason: Reason, method: str) -> None:
        """Count a refused call; ``principal`` is empty where nobody known called."""
        self._metrics.auth_failed(reason)
        self._pending[principal, reason, method] += 1
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Write what was counted."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        await self._flush()

    async def _write(self) -> None:
        wait_s = FIRST_S
        while self._pending and not self._closing.is_set():
            await self._flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._closing.wait()
            wait_s = min(2 * wait_s, LONGEST_S)

    async def _flush(self) -> None:
        counted: dict[tuple[str, Reason], Counter[str]] = {}
        for (principal, reason, method), count in self._pending.items():
            counted.setdefault((principal, reason), Counter())[method] += count
        self._pending.clear()
        for (principal, reason), methods in counted.items():
            try:
                await asyncio.to_thread(self._record, principal, reason, methods)
            except AuditError as error:
                self._metrics.audit_failed()
                log.error("refused calls are not on record yet: %s", error)  # noqa: TRY400
                for method, count in methods.items():
                    self._pending[principal, reason, method] += count

    def _record(self, principal: str, reason: Reason, methods: Counter[str]) -> None:
        """Write one record, of the method that was refused most."""
        (most, _), *_ = methods.most_common(1)
        facts = {"reason": reason, "count": methods.total()}
        self._audit.append("auth.failure", principal=principal, subject=most, fields=facts)
