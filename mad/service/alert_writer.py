"""The one writer of the alert log: drafts in, ids out once they are durable."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Final, Literal, TypeAlias, final

from mad.alerts.log import AlertLog
from mad.alerts.retention import AT_ONCE
from mad.alerts.values import Retention
from mad.errors import AlertLogError, AlertRefusedError, MadError
from mad.judgement import Judgement
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.payloads import Payload
from mad.service.alert_spill import Spill, tell_whole
from mad.service.clock import utc_now
from mad.service.digests import digest
from mad.service.worker import Worker
from mad.types import Alert

log = logging.getLogger(__name__)

MAX_PENDING: Final = 16_384
"""Alerts that may wait for a stuck disk; further ones go to the process log at once."""

ROWS_A_COMMIT: Final = 64
"""Rows a commit takes, or one request's if that has more: further ones cost hardly less each."""


@final
@dataclass(frozen=True, kw_only=True)
class UpkeepPlan:
    """What the log keeps, how often it is tidied, and how soon a failed write is tried again."""

    retention: Retention = field(default_factory=Retention)
    tidy_s: float = 10.0
    retry_s: float = 1.0


@dataclass(frozen=True, eq=False)
class _Drafts:
    alerts: Sequence[Alert]


@dataclass(frozen=True, eq=False)
class _Chore:
    kind: Literal["retry", "tidy"]


_Job: TypeAlias = _Drafts | _Chore
_Answer: TypeAlias = Sequence[str]


@final
class AlertWriter:
    """Appends alerts of concurrent requests in one commit: what waits is the next commit.

    While the log cannot be written nobody waits for it: callers get their verdicts with no id, and
    their alerts are kept in memory and written once they can be. Those for which there is no room,
    and those still there when the server stops, are logged whole at ERROR. ``written`` is called in
    the event loop after alerts were written.
    """

    def __init__(
        self,
        alert_log: AlertLog,
        metrics: Metrics,
        *,
        plan: UpkeepPlan | None = None,
        clock: Callable[[], datetime] = utc_now,
        written: Callable[[], object] = lambda: None,
    ) -> None:
        self._log = alert_log
        self._metrics = metrics
        self._plan = plan or UpkeepPlan()
        self._clock = clock
        self._on_written = written
        self._spill = Spill(alert_log, rows_a_commit=ROWS_A_COMMIT)
        self._pending = 0
        self._worker: Worker[_Job, _Answer] = Worker("alert-log", choose=_group, work=self._work)
        self._upkeep: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to write, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._worker.start()
        self._upkeep = [
            asyncio.create_task(self._keep_tidy()),
            asyncio.create_task(self._keep_trying()),
        ]

    async def close(self) -> None:
        """Write what waits, then stop."""
        for task in self._upkeep:
            task.cancel()
        await asyncio.gather(*self._upkeep, return_exceptions=True)
        if self._spill:
            self._worker.enqueue(_Chore("retry"))
        await self._worker.close()
        self._spill.give_up()

    async def write(self, alerts: Sequence[Alert]) -> Sequence[str]:
        """Return the alerts' ids once they are durable, in order; empty if they are not yet.

        A caller that is cancelled does not take its alerts back.
        """
        if not alerts:
            return []
        try:
            ids = self._enqueue(_Drafts(alerts))
        except MadError as error:
            self._metrics.alerts.failed()
            for alert in alerts:
                tell_whole(alert, error)
            return [""] * len(alerts)
        return await asyncio.shield(ids)

    def _enqueue(self, drafts: _Drafts) -> asyncio.Future[_Answer]:
        size = len(drafts.alerts)
        if self._pending + size > MAX_PENDING:
            raise AlertLogError(f"{self._pending} alerts wait to be written already")
        ids = self._worker.enqueue(drafts)
        self._count(size)
        ids.add_done_callback(lambda _: self._count(-size))
        return ids

    def _count(self, change: int) -> None:
        self._pending += change
        self._metrics.alerts.pending(self._pending + len(self._spill))

    async def _keep_tidy(self) -> None:
        while True:
            removed: _Answer = await self._worker.enqueue(_Chore("tidy"))
            if not removed:
                await asyncio.sleep(self._plan.tidy_s)

    async def _keep_trying(self) -> None:
        while True:
            await asyncio.sleep(self._plan.retry_s)
            if self._spill:
                await self._worker.enqueue(_Chore("retry"))
                self._count(0)

    def _work(self, group: Sequence[_Job]) -> Sequence[_Answer]:
        """Do a group in the writer's thread."""
        match group:
            case [_Chore("retry")]:
                self._write_spilled()
                return [[]]
            case [_Chore("tidy")]:
                return [["more"] if self._tidy() else []]
            case _:
                return self._append([job for job in group if isinstance(job, _Drafts)])

    def _append(self, group: Sequence[_Drafts]) -> Sequence[_Answer]:
        if self._spill:
            return self._spilled(group, AlertLogError("the alert log cannot be written"))
        start = time.perf_counter()
        alerts = [alert for drafts in group for alert in drafts.alerts]
        try:
            ids = self._log.append(alerts)
        except AlertRefusedError as error:
            if len(alerts) > 1:
                return [self._append_each(drafts) for drafts in group]
            self._metrics.alerts.failed()
            tell_whole(alerts[0], error)
            return [[""]]
        except Exception as error:
            log.exception("the alert log cannot be written")
            return self._failed(group, error)
        open_now = self._log.open_incidents
        self._metrics.alerts.appended(time.perf_counter() - start, open_incidents=open_now)
        # A retry gets the id of the alert it raised the first time.
        self._tell([one for one, own in zip(alerts, ids, strict=True) if one.alert_id == own])
        given = iter(ids)
        return [[next(given) for _ in drafts.alerts] for drafts in group]

    def _append_each(self, drafts: _Drafts) -> _Answer:
        """Append alerts of which the log refuses some, each for itself."""
        single = (_Drafts([alert]) for alert in drafts.alerts)
        return [answer[0] for one in single for answer in self._append([one])]

    def _failed(self, group: Sequence[_Drafts], error: Exception) -> Sequence[_Answer]:
        self._metrics.alerts.failed()
        return self._spilled(group, error)

    def _spilled(self, group: Sequence[_Drafts], error: Exception) -> Sequence[_Answer]:
        for drafts in group:
            self._spill.keep(drafts.alerts, error)
        return [[""] * len(drafts.alerts) for drafts in group]

    def _write_spilled(self) -> None:
        before = len(self._spill)
        try:
            while self._spill:
                self._tell(self._spill.write_some())
        except AlertLogError as error:
            self._metrics.alerts.failed()
            log.warning("the alert log still cannot be written: %s", error)
        except Exception:
            self._metrics.alerts.failed()
            log.exception("the alert log still cannot be written")
        else:
            log.info("the alert log is written again", extra={"alerts": before})

    def _tidy(self) -> bool:
        """Tidy up; return whether there may be more to remove."""
        try:
            tidied = self._log.tidy(self._plan.retention, self._clock())
        except AlertLogError as error:
            self._metrics.alerts.failed()
            log.warning("the alert log cannot be tidied: %s", error)
            return False
        self._metrics.alerts.incidents(tidied.open_incidents)
        if tidied.removed:
            log.info("alerts removed", extra={"alerts": tidied.removed})
        return tidied.removed >= AT_ONCE

    def _tell(self, written: Iterable[Alert]) -> None:
        """Count alerts that are in the log now, and call whoever waits for them."""
        for alert in written:
            self._metrics.alert_raised(alert.baseline, 1)
            self._metrics.exemplified_by(alert)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_written)


def drafts(
    monitor: Monitor, judgement: Judgement, payload: Payload, *, request_id: str, time: datetime
) -> dict[int, Alert]:
    """Return an alert with a fresh id for each row that raises one."""
    manifest = monitor.baseline.manifest
    return {
        row: Alert(
            alert_id=str(uuid.uuid4()),
            time=time,
            model=manifest.model_name,
            baseline=manifest.name,
            version=manifest.version,
            request_id=request_id,
            input_index=row,
            input_digest=digest(payload, row),
            verdict=verdict,
            explanation=judgement.explanations[row],
        )
        for row, verdict in enumerate(judgement.verdicts)
        if verdict.is_alert
    }


def _group(waiting: Iterable[_Job]) -> Sequence[_Job]:
    """Choose a chore alone, or requests whose alerts are one commit."""
    jobs = iter(waiting)
    first = next(jobs)
    if isinstance(first, _Chore):
        return [first]
    group: list[_Job] = []
    rows = 0
    for job in chain([first], jobs):
        if isinstance(job, _Chore) or (group and rows + len(job.alerts) > ROWS_A_COMMIT):
            break
        group.append(job)
        rows += len(job.alerts)
    return group
