"""Alerts that could not be written, kept in memory until they can be; not safe across threads."""

import json
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, final

from mad.alerts.log import AlertLog
from mad.errors import AlertLogError, AlertRefusedError
from mad.types import Alert

log = logging.getLogger(__name__)

MAX_SPILL: Final = 4096
"""Alerts kept; the newest beyond them go to the process log, so that an outage's beginning stays.

They take about 10 kB each.
"""


@final
class Spill:
    """What waits for the alert log to be writable again, oldest first."""

    def __init__(self, alert_log: AlertLog, *, rows_a_commit: int) -> None:
        self._log = alert_log
        self._rows = rows_a_commit
        self._waiting: deque[Alert] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, alerts: Sequence[Alert], error: Exception) -> None:
        """Keep alerts, as far as there is room."""
        room = MAX_SPILL - len(self._waiting)
        self._waiting.extend(alerts[:room])
        for alert in alerts[room:]:
            tell_whole(alert, error)

    def write_some(self) -> list[Alert]:
        """Write the oldest, and return those that are in the log now and were not before.

        What the log refuses for itself is told whole, and leaves. Raises AlertLogError if the log
        still cannot be written; nothing has left then.
        """
        some = [self._waiting[at] for at in range(min(self._rows, len(self._waiting)))]
        try:
            ids = self._log.append(some)
        except AlertRefusedError as error:
            if len(some) > 1:
                return self._write_each(some)
            tell_whole(some[0], error)
            ids = [""]
        self._forget(len(some))
        return [
            alert for alert, alert_id in zip(some, ids, strict=True) if _is_new(alert, alert_id)
        ]

    def give_up(self) -> None:
        """Tell all of them whole, for nobody will write them."""
        while self._waiting:
            tell_whole(self._waiting.popleft(), AlertLogError("the server has stopped"))

    def _write_each(self, some: Sequence[Alert]) -> list[Alert]:
        written = []
        for alert in some:
            try:
                (alert_id,) = self._log.append([alert])
            except AlertRefusedError as error:
                tell_whole(alert, error)
            else:
                written += [alert] if _is_new(alert, alert_id) else []
            self._forget(1)
        return written

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()


def tell_whole(alert: Alert, error: Exception) -> None:
    """Log an alert that will not be in the alert log: it is not lost silently."""
    told = asdict(alert)
    told["verdict"]["parts"] = [part._asdict() for part in alert.verdict.parts]
    log.error(
        "alert not recorded (%s): %s",
        error,
        json.dumps(told, default=str),
        extra={"request_id": alert.request_id},
    )


def _is_new(alert: Alert, alert_id: str) -> bool:
    """Return whether an alert was written; a retry gets the id of the one of the first time."""
    return alert.alert_id == alert_id
