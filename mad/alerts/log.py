"""The append-only alert log: alerts in, durable before ``append`` returns; pages of alerts out.

SQLite by default: one file, a write-ahead log, every commit synced to disk. PostgreSQL by URL.
"""

import base64
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, final

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    tuple_,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from mad.alerts import rows
from mad.errors import AlertLogError, ConfigError, InputError
from mad.types import Alert

_WRITER_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL")
_READER_PRAGMAS: Final = ("query_only=ON",)
_LOCK_WAIT_S: Final = 10.0
# Five values a key, and SQLite takes at most 32,766 values a statement.
_KEYS_A_QUERY: Final = 1000

_RetryKey = tuple[str, int, str, str, int]


@final
class AlertLog:
    """The alerts of one database. Threads may share it; programs may share its database."""

    def __init__(self, writer: Engine, reader: Engine, *, place: str) -> None:
        self._writer = writer
        self._reader = reader
        self._place = place
        self._writing = threading.Lock()

    @classmethod
    def open(cls, url: str) -> "AlertLog":
        """Open the log at a database URL such as ``sqlite:///alerts.db``, made if it is new.

        Raises ConfigError if the URL, its directory, its driver or its database cannot be used.
        """
        target = _target(url)
        place = target.render_as_string(hide_password=True)
        try:
            # A SQLite transaction that reads and then writes fails if another program wrote in
            # between; taking the write lock at BEGIN makes it wait its turn instead.
            writer = _engine(target, begin="BEGIN IMMEDIATE", pragmas=_WRITER_PRAGMAS)
            reader = _engine(target, begin="BEGIN", pragmas=_READER_PRAGMAS)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"alert log {place} needs the Python package {error.name}; install it, or use a "
                "URL that starts with sqlite:///"
            ) from error
        with ExitStack() as undo:
            log = cls(writer, reader, place=place)
            undo.callback(log.close)
            _prepare(writer, place)
            undo.pop_all()
        return log

    def append(self, alerts: Sequence[Alert]) -> list[str]:
        """Write alerts in one commit and return their ids, in order, once they are on disk.

        Law: an alert with a ``request_id`` whose request, input, baseline and version are in the
        log already keeps the id it has there and is not written again, so a retry is safe.
        Raises AlertLogError if the log cannot be written.
        """
        ids: list[str] = []
        fresh = []
        with self._failures("written"), self._writing, self._writer.begin() as connection:
            known = _known(connection, alerts)
            for alert in alerts:
                key = _retry_key(alert)
                if not alert.request_id or key not in known:
                    known[key] = alert.alert_id
                    fresh.append(rows.to_row(alert))
                ids.append(known[key])
            if fresh:
                connection.execute(insert(rows.alerts), fresh)
        return ids

    def page(self, baseline: str, size: int, token: str) -> tuple[list[Alert], str]:
        """Return up to ``size`` alerts, newest first, and the token of the page after them.

        An empty ``baseline`` means all; an empty ``token`` starts at the newest alert, and comes
        back after the last page. Alerts that arrive meanwhile move no page. Raises InputError for
        a size or token that cannot be, AlertLogError if the log cannot be read.
        """
        if size < 1:
            raise InputError(f"page size {size}: must be at least 1")
        alerts = rows.alerts
        query = select(alerts).order_by(alerts.c.sequence.desc()).limit(size + 1)
        if baseline:
            query = query.where(alerts.c.baseline == baseline)
        if token:
            query = query.where(alerts.c.sequence < _read_token(token, baseline))
        with self._failures("read"), self._reader.connect() as connection:
            found = connection.execute(query).all()
        shown = found[:size]
        more = len(found) > size
        return [rows.from_row(row) for row in shown], (
            _write_token(shown[-1].sequence, baseline) if more else ""
        )

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise AlertLogError(
                f"alert log {self._place} cannot be {what}: {_reason(error)}"
            ) from error


def _target(url: str) -> URL:
    """Parse a URL, and refuse those that cannot hold an alert log."""
    try:
        target = make_url(url)
    except ArgumentError as error:
        shown = re.sub(r":[^:@/]*@", ":***@", url)
        raise ConfigError(
            f"alert log {shown!r} is not a database URL; write one such as sqlite:///alerts.db"
        ) from error
    backend = target.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise ConfigError(f"alert log database {backend!r} is not supported; use sqlite:///FILE")
    path = target.database or ""
    if backend == "sqlite" and (path in {"", ":memory:"} or path.startswith("file:")):
        raise ConfigError(f"alert log {url!r} names no file; write one such as sqlite:///alerts.db")
    if backend == "sqlite" and not (directory := Path(path).parent.absolute()).is_dir():
        raise ConfigError(f"alert log {url!r}: directory {directory} does not exist; make it first")
    return target


def _engine(target: URL, *, begin: str, pragmas: Sequence[str]) -> Engine:
    if target.get_backend_name() != "sqlite":
        return create_engine(target, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(
        target,
        connect_args={"timeout": _LOCK_WAIT_S, "isolation_level": None},
        hide_parameters=True,
    )

    def connected(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _prepare(writer: Engine, place: str) -> None:
    """Make the tables of a new log; refuse a database that is no log, or of another format."""
    try:
        with writer.begin() as connection:
            names = set(inspect(connection).get_table_names())
            if rows.formats.name not in names and rows.alerts.name not in names:
                _create(connection)
            found = connection.execute(select(rows.formats.c.format)).scalars().all()
    except SQLAlchemyError as error:
        raise ConfigError(
            f"alert log {place} cannot be opened: {_reason(error)}; check that its directory "
            "is writable and that the file is an undamaged alert log, or name a new file"
        ) from error
    if list(found) != [rows.FORMAT]:
        raise ConfigError(
            f"alert log {place} has format {', '.join(map(str, found)) or 'none'}, and this "
            f"version reads format {rows.FORMAT}; upgrade, or name a new file"
        )


def _create(connection: Connection) -> None:
    rows.SCHEMA.create_all(connection)
    connection.execute(insert(rows.formats), {"format": rows.FORMAT})
    if connection.dialect.name == "sqlite":
        for guard in rows.SQLITE_GUARDS:
            connection.exec_driver_sql(guard)


def _retry_key(alert: Alert) -> _RetryKey:
    """Return what a retry of the same request repeats, in the order of ``rows.RETRY_KEY``."""
    return (
        alert.request_id,
        alert.input_index,
        alert.input_digest,
        alert.baseline,
        alert.version,
    )


def _known(connection: Connection, alerts: Sequence[Alert]) -> dict[_RetryKey, str]:
    """Return the ids of those alerts of named requests that the log holds already."""
    keys = [_retry_key(alert) for alert in alerts if alert.request_id]
    known: dict[_RetryKey, str] = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        chunk = keys[start : start + _KEYS_A_QUERY]
        query = select(*rows.RETRY_KEY, rows.alerts.c.alert_id).where(
            tuple_(*rows.RETRY_KEY).in_(chunk)
        )
        known.update((row[:5], row[5]) for row in connection.execute(query))
    return known


def _write_token(sequence: int, baseline: str) -> str:
    return base64.urlsafe_b64encode(f"{sequence} {baseline}".encode()).decode()


def _read_token(token: str, baseline: str) -> int:
    """Return the sequence number a page ended at."""
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
        digits, asked = text.split(" ", maxsplit=1)
        sequence = int(digits)
    except ValueError as error:
        raise InputError(
            f"page token {token!r} was not given out by this service; leave it empty"
        ) from error
    if asked != baseline or not 0 < sequence < 2**63:
        raise InputError(
            f"page token {token!r} belongs to another listing; leave it empty to start this one"
        )
    return sequence


def _reason(error: SQLAlchemyError) -> str:
    """Say what went wrong without the statement and its values, which are the callers'."""
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)
