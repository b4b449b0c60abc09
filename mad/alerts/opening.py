"""Open the database of an alert log: its URL checked, its connections made, its tables brought up.

SQLite by default: one file, a write-ahead log, every commit synced to disk. PostgreSQL by URL.
"""

import re
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from mad.alerts.tables import FORMAT, alerts, formats
from mad.errors import ConfigError

_WRITER_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL")
_READER_PRAGMAS: Final = ("query_only=ON",)
_LOCK_WAIT_S: Final = 10.0
_LOCK_POLL_S: Final = 0.01
_CONNECT_S: Final = 5
_STALLED_MS: Final = 10_000
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Any number will do, as long as every version takes the same one to make or change the tables.
_MIGRATION_LOCK: Final = 0x6D61646C6F67
# Alembic keeps the migration under way in a global.
_migrating: Final = threading.Lock()


@final
@dataclass(frozen=True)
class Database:
    """The connections to one log's database; ``place`` is its URL without a password."""

    writer: Engine
    reader: Engine
    place: str

    def close(self) -> None:
        """Close every connection."""
        self.reader.dispose()
        self.writer.dispose()


def open_database(url: str) -> Database:
    """Connect to the database at a URL, and make its tables or bring them up to this format.

    Two programs may do so at once. Raises ConfigError if the URL, its directory, its driver or its
    database cannot be used, or if a newer version wrote the log.
    """
    target = _target(url)
    place = target.render_as_string(hide_password=True)
    try:
        # A SQLite transaction that reads and then writes fails if another program wrote in
        # between; taking the write lock at BEGIN makes it wait its turn instead.
        database = Database(
            _engine(target, begin="BEGIN IMMEDIATE", pragmas=_WRITER_PRAGMAS),
            _engine(target, begin="BEGIN", pragmas=_READER_PRAGMAS).execution_options(
                postgresql_readonly=True
            ),
            place,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"alert log {place} needs the Python package {error.name}; install it"
            + (" with mad[postgres]" if error.name == "psycopg" else "")
            + ", or use a URL that starts with sqlite:///"
        ) from error
    try:
        _prepare(database.writer, place)
    except BaseException:
        database.close()
        raise
    return database


def reason(error: SQLAlchemyError) -> str:
    """Say what went wrong without the statement and its values, which are the callers'."""
    return str(error.orig).strip() if isinstance(error, DBAPIError) else str(error)


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
        raise ConfigError(
            f"alert log database {backend!r} is not supported; use sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE"
        )
    path = target.database or ""
    if backend == "sqlite" and (path in {"", ":memory:"} or path.startswith("file:")):
        raise ConfigError(f"alert log {url!r} names no file; write one such as sqlite:///alerts.db")
    if backend == "sqlite" and not (directory := Path(path).parent.absolute()).is_dir():
        raise ConfigError(f"alert log {url!r}: directory {directory} does not exist; make it first")
    is_bare = target.drivername == "postgresql"
    return target.set(drivername="postgresql+psycopg") if is_bare else target


def _engine(target: URL, *, begin: str, pragmas: Sequence[str]) -> Engine:
    if target.get_backend_name() == "sqlite":
        return _sqlite_engine(target, begin=begin, pragmas=pragmas)
    # A host that has gone without a word must be an error before the callers' patience ends.
    given = {"connect_timeout": _CONNECT_S, "tcp_user_timeout": _STALLED_MS}
    arguments = {key: value for key, value in given.items() if key not in target.query}
    return create_engine(target, pool_pre_ping=True, hide_parameters=True, connect_args=arguments)


def _sqlite_engine(target: URL, *, begin: str, pragmas: Sequence[str]) -> Engine:
    engine = create_engine(
        target,
        connect_args={"timeout": _LOCK_WAIT_S, "isolation_level": None},
        hide_parameters=True,
    )

    def connected(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            _set(cursor, pragma)
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _set(cursor: DBAPICursor, pragma: str) -> None:
    """Set a pragma; while another program changes the journal of a new log, wait for it.

    SQLite itself waits for a lock, but not for that one.
    """
    give_up = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            cursor.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= give_up:
                raise
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _prepare(writer: Engine, place: str) -> None:
    """Make or change the tables in one transaction, and only one program at a time."""
    try:
        with writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:lock)")
                connection.execute(lock, {"lock": _MIGRATION_LOCK})
            found = _format(connection)
            if found < FORMAT:
                _upgrade(connection, found)
    except SQLAlchemyError as error:
        raise ConfigError(
            f"alert log {place} cannot be opened: {reason(error)}; check that its directory "
            "is writable and that the file is an undamaged alert log, or name a new file"
        ) from error
    if found > FORMAT:
        raise ConfigError(
            f"alert log {place} has format {found}, and this version of mad reads formats up to "
            f"{FORMAT}; run the newer version that wrote it, or name a new file"
        )


def _format(connection: Connection) -> int:
    """Return the format of a log; 0 if there is none yet."""
    names = set(inspect(connection).get_table_names())
    if not names & {formats.name, alerts.name}:
        return 0
    return int(max(connection.execute(select(formats.c.format)).scalars()))


def _upgrade(connection: Connection, found: int) -> None:
    # Alembic takes a while to import, and a log of the present format does not need it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with _migrating:
        if found == 1:
            # Format 1 is older than our use of Alembic, which finds no note of it.
            command.stamp(config, "1")
        command.upgrade(config, "head")
