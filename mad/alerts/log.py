"""The append-only alert log: alerts in, durable before ``append`` returns; pages of alerts out."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from mad.alerts import acknowledging, incidents, listing, retention, rows
from mad.alerts.acknowledging import Finding, Recording
from mad.alerts.grouping import GroupPlan, OpenIncidents
from mad.alerts.opening import Database, open_database, reason
from mad.alerts.retries import known_ids, retry_key
from mad.alerts.tables import alerts as table, head
from mad.alerts.values import Incident, Recorded, Retention, Wanted
from mad.errors import AlertLogError, AlertRefusedError, InputError
from mad.types import Alert


@final
@dataclass(frozen=True, slots=True)
class Position:
    """How far a log has come: the sequence number of its last alert; ``log_id`` is its own."""

    log_id: str
    sequence: int


@final
@dataclass(frozen=True, slots=True)
class Tidied:
    """What a round of tidying came to: alerts removed, and incidents that are open now."""

    removed: int
    open_incidents: int


@final
class AlertLog:
    """The alerts of one database. Threads may share it; programs may share its database."""

    def __init__(self, database: Database, plan: GroupPlan) -> None:
        self._database = database
        self._plan = plan
        self._writing = threading.Lock()
        # Read again whenever somebody else has changed them, as the head shows.
        self._open: OpenIncidents | None = None
        self._open_as_of = (-1, -1)
        self._num_open = 0

    @classmethod
    def open(cls, url: str, *, plan: GroupPlan | None = None) -> "AlertLog":
        """Open the log at a database URL such as ``sqlite:///alerts.db``, made if it is new.

        A log of an older format is brought up to the present one. ``plan`` says how alerts are
        grouped into incidents. Raises ConfigError if the URL, its directory, its driver or its
        database cannot be used.
        """
        return cls(open_database(url), plan or GroupPlan())

    def append(self, alerts: Sequence[Alert]) -> list[str]:
        """Write alerts in one commit and return their ids, in order, once they are on disk.

        Each joins an incident in the same commit. Law: an alert with a ``request_id`` whose
        request, input, baseline and version are in the log already keeps the id it has there and
        is not written again, so a retry is safe. Raises AlertLogError if the log cannot be
        written, AlertRefusedError if that is for what the alerts hold.
        """
        with self._changing() as (connection, top):
            ids, fresh = _fresh(alerts, known_ids(connection, alerts))
            if not fresh:
                return ids
            group = self._open_incidents(connection, top)
            self._open = None  # until it is certain that this happens
            new = [
                rows.to_row(alert, sequence=sequence, incident_id=group.add(alert, sequence))
                for sequence, alert in enumerate(fresh, start=top.sequence + 1)
            ]
            last = top.sequence + len(fresh)
            # First, for the database takes no alert beyond it.
            connection.execute(update(head).values(sequence=last))
            connection.execute(insert(table), new)
            incidents.write_changed(connection, group.take_changed())
            connection.commit()
            self._open, self._open_as_of = group, (last, top.changes)
            self._num_open = len(group)
        return ids

    def acknowledge(
        self, finding: Finding, *, witness: Callable[[], object] = lambda: None
    ) -> Recording:
        """Record what somebody found, durable before this returns; an incident closes by it.

        ``witness`` is told before anything new is recorded, which its error prevents. Raises
        NotFoundError for an unknown id, InputError for a request id that was used for another
        finding, AlertLogError if the log cannot be written.
        """
        with self._changing() as (connection, _):
            recording = acknowledging.record(connection, finding)
            if recording.is_new:
                witness()
            connection.commit()
        return recording

    def tidy(self, retained: Retention, now: datetime) -> Tidied:
        """Close incidents that have been quiet, and remove some of what need not be kept.

        Calls until nothing is removed remove everything. Raises AlertLogError if the log cannot be
        written.
        """
        with self._changing() as (connection, top):
            group = self._open_incidents(connection, top)
            self._open = None  # read again, whatever comes of this
            group.close_quiet(now)
            if closed := group.take_changed():
                incidents.write_changed(connection, closed)
                connection.execute(update(head).values(changes=head.c.changes + 1))
            removed = retention.remove_some(connection, retained, now)
            tidied = Tidied(removed, incidents.count_open(connection))
            connection.commit()
            if not (closed or removed):
                self._open = group
            self._num_open = tidied.open_incidents
        return tidied

    @property
    def open_incidents(self) -> int:
        """How many incidents were open when this program last wrote."""
        return self._num_open

    def page(self, baseline: str, size: int, token: str) -> tuple[list[Alert], str]:
        """Return up to ``size`` alerts as they were raised; otherwise as ``listing``."""
        found, after = self.listing(Wanted(baseline=baseline), size, token)
        return [one.alert for one in found], after

    def listing(self, wanted: Wanted, size: int, token: str) -> tuple[list[Recorded], str]:
        """Return up to ``size`` alerts, newest first, and the token of the page after them.

        An empty ``token`` starts at the newest alert, and comes back after the last page. Alerts
        that arrive meanwhile move no page. Raises InputError for a size or token that cannot be,
        AlertLogError if the log cannot be read.
        """
        _check_size(size)
        with self._reading() as connection:
            return listing.page_of(connection, wanted, size=size, token=token)

    def find(self, alert_id: str) -> Recorded:
        """Return one alert; raises NotFoundError if there is none, AlertLogError as ``listing``."""
        with self._reading() as connection:
            return listing.one(connection, alert_id)

    def position(self) -> Position:
        """Return how far the log has come; raises AlertLogError if it cannot be read."""
        with self._reading() as connection:
            return _position(connection)

    def following(self, baseline: str, *, after: int, size: int) -> tuple[list[Recorded], int]:
        """Return the first alerts after a place, oldest first, and how far that looked.

        An empty ``baseline`` means all. Who goes on from there misses none: alerts that retention
        has removed are passed over. Raises AlertLogError if the log cannot be read.
        """
        with self._reading() as connection:
            last = _position(connection).sequence
            found = listing.following(connection, baseline, after=after, through=last, size=size)
        return found, found[-1].sequence if len(found) == size else max(last, after)

    def incidents(
        self, baseline: str, size: int, token: str, *, include_closed: bool
    ) -> tuple[list[Incident], str]:
        """Return up to ``size`` incidents, those last seen first, and the token of those after.

        One that is seen again meanwhile moves to the front. Raises as ``listing`` does.
        """
        _check_size(size)
        with self._reading() as connection:
            return incidents.page_of(
                connection, baseline, include_closed=include_closed, size=size, token=token
            )

    def check_writable(self) -> str:
        """Write something and take it back; return where the log is, without a password.

        Raises AlertLogError if the log cannot be written.
        """
        with (
            self._failures("written"),
            self._writing,
            self._database.writer.connect() as connection,
            connection.begin() as attempt,
        ):
            connection.execute(update(head).values(sequence=head.c.sequence))
            attempt.rollback()
        return self._database.place

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def _open_incidents(self, connection: Connection, top: Row[Any]) -> OpenIncidents:
        as_of = (top.sequence, top.changes)
        if self._open is None or self._open_as_of != as_of:
            self._open = OpenIncidents(incidents.load_open(connection), self._plan)
            self._open_as_of = as_of
        return self._open

    @contextmanager
    def _changing(self) -> Iterator[tuple[Connection, Row[Any]]]:
        """Begin a transaction that is the only one; its body commits it."""
        with (
            self._failures("written"),
            self._writing,
            self._database.writer.connect() as connection,
        ):
            yield connection, connection.execute(select(head).with_for_update()).one()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._failures("read"), self._database.reader.connect() as connection:
            yield connection

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            is_refused = isinstance(error, IntegrityError | DataError) or (
                isinstance(error, StatementError) and not isinstance(error, DBAPIError)
            )
            kind = AlertRefusedError if is_refused else AlertLogError
            raise kind(
                f"alert log {self._database.place} cannot be {what}: {reason(error)}"
            ) from error


def _fresh(
    alerts: Sequence[Alert], known: dict[tuple[str, int, str, str, int], str]
) -> tuple[list[str], list[Alert]]:
    """Return the ids that alerts have or will have, and those alerts that are new."""
    ids, fresh = [], []
    for alert in alerts:
        key = retry_key(alert)
        if not alert.request_id or key not in known:
            known[key] = alert.alert_id
            fresh.append(alert)
        ids.append(known[key])
    return ids, fresh


def _position(connection: Connection) -> Position:
    row = connection.execute(select(head)).one()
    return Position(row.log_id, row.sequence)


def _check_size(size: int) -> None:
    if size < 1:
        raise InputError(f"page size {size}: must be at least 1")
