"""Format 2: incidents, acknowledgements, retention, and guards in PostgreSQL too.

Alerts of format 1 keep every value they had. They belong to no incident.
"""

import json
import math
import uuid
from collections.abc import Iterator

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    String,
    Text,
    text,
)

revision = "2"
down_revision = "1"

_AT_ONCE = 1000
_REFUSED = "the alert log is append-only"

# What retention has marked may go, and nothing else; the program never edits a row. These stop a
# person with a database shell. Incidents are counted up as alerts come, so they may change.
_LAST = {
    "mad_alerts": "sequence",
    "mad_acknowledgements": "through",
    "mad_incidents": "last_sequence",
}
_UNCHANGING = ("mad_alerts", "mad_acknowledgements")
_REMOVED = "(SELECT removed_through FROM mad_alert_log_head)"
_HEAD = "(SELECT sequence FROM mad_alert_log_head)"
# A server of an older version may still run; it knows no head, and would break the numbering.
_OLDER = "an older version of mad cannot write to this alert log"


def upgrade() -> None:
    """Add what is new."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        op.execute("DROP TRIGGER mad_alerts_no_update")
        op.execute("DROP TRIGGER mad_alerts_no_delete")
    op.add_column("mad_alerts", Column("surprise_bits", Double))
    op.add_column("mad_alerts", Column("incident_id", String, nullable=False, server_default=""))
    _fill_in_surprise(connection)
    op.create_index("mad_alerts_incident", "mad_alerts", ["incident_id", "sequence"])
    op.create_index("mad_alerts_time", "mad_alerts", ["time"])
    _make_head(connection)
    _make_incidents()
    _make_acknowledgements()
    for statement in _sqlite_guards() if is_sqlite else _postgresql_guards():
        op.execute(statement)
    op.execute("UPDATE mad_alert_log_format SET format = 2")


def _fill_in_surprise(connection: Connection) -> None:
    """Read the surprise out of each body; what was a code length stays without one."""
    page = text(
        "SELECT sequence, body FROM mad_alerts WHERE sequence > :last ORDER BY sequence LIMIT :n"
    )
    write = text("UPDATE mad_alerts SET surprise_bits = :surprise WHERE sequence = :sequence")
    last = 0
    while rows := connection.execute(page, {"last": last, "n": _AT_ONCE}).all():
        last = rows[-1].sequence
        found = [{"sequence": row.sequence, "surprise": _surprise(row.body)} for row in rows]
        if known := [one for one in found if one["surprise"] is not None]:
            connection.execute(write, known)


def _surprise(body: str) -> float | None:
    try:
        verdict = json.loads(body)["verdict"]
        surprise = float(verdict["surprise_bits"])
    except (ValueError, KeyError, TypeError):
        return None  # a damaged row is named when it is read
    return None if math.isnan(surprise) or "description_bits" not in verdict else surprise


def _make_head(connection: Connection) -> None:
    op.create_table(
        "mad_alert_log_head",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("log_id", String, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("removed_through", BigInteger, nullable=False),
        Column("changes", BigInteger, nullable=False),
    )
    connection.execute(
        text(
            "INSERT INTO mad_alert_log_head (id, log_id, sequence, removed_through, changes) "
            "SELECT 1, :log_id, coalesce(max(sequence), 0), coalesce(min(sequence) - 1, 0), 0 "
            "FROM mad_alerts"
        ),
        {"log_id": uuid.uuid4().hex},
    )


def _make_incidents() -> None:
    op.create_table(
        "mad_incidents",
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
    op.create_index("mad_incidents_last", "mad_incidents", ["last_sequence"])
    op.create_index("mad_incidents_open", "mad_incidents", ["is_open", "last_sequence"])


def _make_acknowledgements() -> None:
    op.create_table(
        "mad_acknowledgements",
        Column(
            "sequence",
            BigInteger().with_variant(Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
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
    op.create_index(
        "mad_acknowledgements_retry",
        "mad_acknowledgements",
        ["request_id"],
        unique=True,
        sqlite_where=text("request_id <> ''"),
        postgresql_where=text("request_id <> ''"),
    )
    for of in ("alert", "incident"):
        columns = [f"{of}_id", "sequence"]
        op.create_index(f"mad_acknowledgements_{of}", "mad_acknowledgements", columns)
    op.create_index("mad_acknowledgements_through", "mad_acknowledgements", ["through"])


def _sqlite_guards() -> Iterator[str]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
    yield (
        "CREATE TRIGGER mad_alerts_in_order AFTER INSERT ON mad_alerts "
        f"WHEN NEW.sequence > {_HEAD} BEGIN SELECT RAISE(ABORT, '{_OLDER}'); END"
    )
    for table in _UNCHANGING:
        yield f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}"
    for table, last in _LAST.items():
        yield (
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            f"WHEN OLD.{last} > {_REMOVED} {refuse}"
        )


def _postgresql_guards() -> Iterator[str]:
    yield (
        "CREATE FUNCTION mad_alert_log_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$"
    )
    yield (
        "CREATE FUNCTION mad_alerts_follow() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF NEW.sequence <= {_HEAD} THEN RETURN NEW; END IF; "
        f"RAISE EXCEPTION '{_OLDER}'; END $$"
    )
    yield (
        "CREATE TRIGGER mad_alerts_in_order BEFORE INSERT ON mad_alerts "
        "FOR EACH ROW EXECUTE FUNCTION mad_alerts_follow()"
    )
    for table in _UNCHANGING:
        yield (
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION mad_alert_log_refuse()"
        )
    for table, last in _LAST.items():
        yield (
            f"CREATE FUNCTION {table}_keep() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF OLD.{last} <= {_REMOVED} THEN RETURN OLD; END IF; "
            f"RAISE EXCEPTION '{_REFUSED}'; END $$"
        )
        yield (
            f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {table}_keep()"
        )
        yield (
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "EXECUTE FUNCTION mad_alert_log_refuse()"
        )
