"""The tables of the alert log, as its migrations leave them."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

FORMAT: Final = 2
"""Format of these tables. An older log is brought up to it; a newer one is refused."""

SCHEMA: Final = MetaData()

formats: Final = Table(
    "mad_alert_log_format", SCHEMA, Column("format", Integer, primary_key=True, autoincrement=False)
)
"""One row, which versions of every age read first."""

head: Final = Table(
    "mad_alert_log_head",
    SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("log_id", String, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("removed_through", BigInteger, nullable=False),
    Column("changes", BigInteger, nullable=False),
)
"""One row, which whoever writes holds locked.

So sequence numbers have no gaps, and none is seen before those below it. ``removed_through`` is the
last that retention has removed, ``log_id`` tells this log from any other, and ``changes`` counts
what happened to incidents otherwise than by an alert.
"""

# SQLite counts rows up by itself only for a column that is exactly an INTEGER.
_counted: Final = BigInteger().with_variant(Integer, "sqlite")

alerts: Final = Table(
    "mad_alerts",
    SCHEMA,
    Column("sequence", _counted, primary_key=True, autoincrement=True),
    Column("alert_id", String, nullable=False, unique=True),
    Column("time", String, nullable=False),
    Column("model", String, nullable=False),
    Column("baseline", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("request_id", String, nullable=False),
    Column("input_index", BigInteger, nullable=False),
    Column("input_digest", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("surprise_bits", Double),
    Column("incident_id", String, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)
"""``surprise_bits`` is absent where it is no number; ``incident_id`` is empty in old rows."""

RETRY_KEY: Final = (
    alerts.c.request_id,
    alerts.c.input_index,
    alerts.c.input_digest,
    alerts.c.baseline,
    alerts.c.version,
)
"""What a caller's retry of a named request repeats."""

_named: Final = text("request_id <> ''")
Index("mad_alerts_retry", *RETRY_KEY, unique=True, sqlite_where=_named, postgresql_where=_named)
Index("mad_alerts_baseline", alerts.c.baseline, alerts.c.sequence)
Index("mad_alerts_incident", alerts.c.incident_id, alerts.c.sequence)
Index("mad_alerts_time", alerts.c.time)

incidents: Final = Table(
    "mad_incidents",
    SCHEMA,
    Column("incident_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("baseline", String, nullable=False),
    Column("context", BigInteger, nullable=False),
    Column("profile", Text, nullable=False),
    Column("alerts", BigInteger, nullable=False),
    Column("first_time", String, nullable=False),
    Column("last_time", String, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("most_surprise_bits", Double, nullable=False),
    Column("representative_alert_id", String, nullable=False),
    Column("is_open", Boolean, nullable=False),
)
"""Written in the same transactions as the alerts they group."""

Index("mad_incidents_last", incidents.c.last_sequence)
Index("mad_incidents_open", incidents.c.is_open, incidents.c.last_sequence)

acknowledgements: Final = Table(
    "mad_acknowledgements",
    SCHEMA,
    Column("sequence", _counted, primary_key=True, autoincrement=True),
    Column("alert_id", String, nullable=False),
    Column("incident_id", String, nullable=False),
    Column("through", BigInteger, nullable=False),
    Column("alerts", BigInteger, nullable=False),
    Column("disposition", String, nullable=False),
    Column("comment", Text, nullable=False),
    Column("principal", String, nullable=False),
    Column("time", String, nullable=False),
    Column("request_id", String, nullable=False),
    sqlite_autoincrement=True,
)
"""Each is of an alert or of an incident, whose last sequence number is ``through``."""

Index(
    "mad_acknowledgements_retry",
    acknowledgements.c.request_id,
    unique=True,
    sqlite_where=_named,
    postgresql_where=_named,
)
Index("mad_acknowledgements_alert", acknowledgements.c.alert_id, acknowledgements.c.sequence)
Index("mad_acknowledgements_incident", acknowledgements.c.incident_id, acknowledgements.c.sequence)
Index("mad_acknowledgements_through", acknowledgements.c.through)
