"""All of one server that has to do with its alert log: the writer, the watchers, the servicer."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import final

from mad.alerts.log import AlertLog
from mad.audit import AuditLog
from mad.metrics import Metrics
from mad.service.alert_watch import AlertWatch
from mad.service.alert_writer import AlertWriter, UpkeepPlan
from mad.service.alerts import AlertServicer
from mad.service.arrivals import Arrivals


@final
class AlertDesk:
    """Runs from ``start`` to ``close``, which closes the log."""

    def __init__(  # who writes, who watches, who is told
        self,
        alert_log: AlertLog,
        plan: UpkeepPlan,
        *,
        audit: AuditLog,
        metrics: Metrics,
        draining: asyncio.Event,
        clock: Callable[[], datetime],
    ) -> None:
        self._log = alert_log
        self._arrivals = Arrivals(alert_log)
        self.writer = AlertWriter(
            alert_log, metrics, plan=plan, clock=clock, written=self._arrivals.tell
        )
        watch = AlertWatch(alert_log=alert_log, arrivals=self._arrivals, draining=draining)
        self.servicer = AlertServicer(
            alert_log=alert_log, watch=watch, audit=audit, metrics=metrics, clock=clock
        )

    def start(self) -> None:
        """Begin to write and to look, in the running event loop."""
        self.writer.start()
        self._arrivals.start()

    async def close(self) -> None:
        """Write what waits, and close the log."""
        await self.writer.close()
        await self._arrivals.close()
        await asyncio.to_thread(self._log.close)
