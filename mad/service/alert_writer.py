"""The one writer of the alert log: drafts in, ids out once they are durable."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import final

from mad.alerts.log import AlertLog
from mad.errors import AlertLogError, MadError
from mad.judgement import Judgement
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.payloads import Payload
from mad.service.digests import digest
from mad.service.worker import Worker
from mad.types import Alert

log = logging.getLogger(__name__)

MAX_PENDING = 16_384
"""Alerts that may wait for a stuck disk; further ones go to the process log at once."""


@dataclass(frozen=True, eq=False)
class _Drafts:
    alerts: Sequence[Alert]


@final
class AlertWriter:
    """Appends alerts of concurrent requests in one commit: what waits is the next commit.

    An alert that cannot be written is counted, and logged whole at ERROR: it is not lost silently.
    """

    def __init__(self, alert_log: AlertLog, metrics: Metrics) -> None:
        self._log = alert_log
        self._metrics = metrics
        self._pending = 0
        self._worker: Worker[_Drafts, Sequence[str]] = Worker(
            "alert-log", choose=_everything, work=self._append
        )

    def start(self) -> None:
        """Begin to write, in the running event loop."""
        self._worker.start()

    async def close(self) -> None:
        """Write what waits, then stop."""
        await self._worker.close()

    async def write(self, alerts: Sequence[Alert]) -> Sequence[str]:
        """Return the alerts' ids once they are durable, in order; empty if they are not.

        A caller that is cancelled does not take its alerts back.
        """
        if not alerts:
            return []
        group = _Drafts(alerts)
        try:
            ids = self._enqueue(group)
        except MadError as error:
            return self._failed(group, error)
        return await asyncio.shield(ids)

    def _enqueue(self, group: _Drafts) -> asyncio.Future[Sequence[str]]:
        size = len(group.alerts)
        if self._pending + size > MAX_PENDING:
            raise AlertLogError(f"{self._pending} alerts wait to be written already")
        ids = self._worker.enqueue(group)
        self._count(size)
        ids.add_done_callback(lambda _: self._count(-size))
        return ids

    def _count(self, change: int) -> None:
        self._pending += change

    def _append(self, group: Sequence[_Drafts]) -> Sequence[Sequence[str]]:
        """Commit a group in the writer's thread."""
        start = time.perf_counter()
        try:
            ids = iter(self._log.append([alert for drafts in group for alert in drafts.alerts]))
        except Exception as error:
            log.exception("the alert log cannot be written")
            return [self._failed(drafts, error) for drafts in group]
        self._metrics.alert_log_appended(time.perf_counter() - start)
        return [self._written(drafts, [next(ids) for _ in drafts.alerts]) for drafts in group]

    def _written(self, drafts: _Drafts, ids: Sequence[str]) -> Sequence[str]:
        for alert, alert_id in zip(drafts.alerts, ids, strict=True):
            # A retry gets the id of the alert it raised the first time.
            if alert_id == alert.alert_id:
                self._metrics.alert_raised(alert.baseline, 1)
        return ids

    def _failed(self, drafts: _Drafts, error: Exception) -> Sequence[str]:
        self._metrics.alert_log_failed()
        for alert in drafts.alerts:
            log.error(
                "alert not recorded (%s): %s",
                error,
                json.dumps(asdict(alert), default=str),
                extra={"request_id": alert.request_id},
            )
        return [""] * len(drafts.alerts)


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


def _everything(waiting: Iterable[_Drafts]) -> Sequence[_Drafts]:
    return list(waiting)
