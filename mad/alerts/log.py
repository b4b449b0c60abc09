"""The append-only alert log: alerts in, durable before ``append`` returns; pages of alerts out."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

from sqlalchemy import insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from mad.alerts import rows
from mad.alerts.opening import Database, open_database, reason
from mad.alerts.retries import known_ids, retry_key
from mad.alerts.tables import alerts as table, head
from mad.alerts.tokens import read_token, write_token
from mad.errors import AlertLogError, InputError
from mad.types import Alert


@final
class AlertLog:
    """The alerts of one database. Threads may share it; programs may share its database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing = threading.Lock()

    @classmethod
    def open(cls, url: str) -> "AlertLog":
        """Open the log at a database URL such as ``sqlite:///alerts.db``, made if it is new.

        A log of an older format is brought up to the present one. Raises ConfigError if the URL,
        its directory, its driver or its database cannot be used.
        """
        return cls(open_database(url))

    def append(self, alerts: Sequence[Alert]) -> list[str]:
        """Write alerts in one commit and return their ids, in order, once they are on disk.

        Law: an alert with a ``request_id`` whose request, input, baseline and version are in the
        log already keeps the id it has there and is not written again, so a retry is safe.
        Raises AlertLogError if the log cannot be written.
        """
        ids: list[str] = []
        fresh: list[Alert] = []
        with self._failures("written"), self._writing, self._database.writer.begin() as connection:
            last = connection.execute(select(head.c.sequence).with_for_update()).scalar_one()
            known = known_ids(connection, alerts)
            for alert in alerts:
                key = retry_key(alert)
                if not alert.request_id or key not in known:
                    known[key] = alert.alert_id
                    fresh.append(alert)
                ids.append(known[key])
            if fresh:
                new = [
                    rows.to_row(alert, sequence=sequence, incident_id="")
                    for sequence, alert in enumerate(fresh, start=last + 1)
                ]
                connection.execute(insert(table), new)
                connection.execute(update(head).values(sequence=last + len(fresh)))
        return ids

    def page(self, baseline: str, size: int, token: str) -> tuple[list[Alert], str]:
        """Return up to ``size`` alerts, newest first, and the token of the page after them.

        An empty ``baseline`` means all; an empty ``token`` starts at the newest alert, and comes
        back after the last page. Alerts that arrive meanwhile move no page. Raises InputError for
        a size or token that cannot be, AlertLogError if the log cannot be read.
        """
        if size < 1:
            raise InputError(f"page size {size}: must be at least 1")
        query = select(table).order_by(table.c.sequence.desc()).limit(size + 1)
        if baseline:
            query = query.where(table.c.baseline == baseline)
        if token:
            query = query.where(table.c.sequence < read_token(token, baseline))
        with self._failures("read"), self._database.reader.connect() as connection:
            found = connection.execute(query).all()
        shown = found[:size]
        more = len(found) > size
        return [rows.from_row(row) for row in shown], (
            write_token(shown[-1].sequence, baseline) if more else ""
        )

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise AlertLogError(
                f"alert log {self._database.place} cannot be {what}: {reason(error)}"
            ) from error
