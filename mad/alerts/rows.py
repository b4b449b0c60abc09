"""An alert as one row of a table, and back, exactly.

Columns hold what is searched; ``body`` holds the verdict and its explanation as JSON, whose floats
are written with the fewest digits that read back as the same float.

A surprise was a code length once. A verdict without ``description_bits`` is from then: its
``surprise_bits`` is read as its description, the rarities it never had are NaN, and its parts tell
no rare components.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    text,
)

from mad.errors import AlertLogError
from mad.types import Alert, Charge, Explanation, Part, SetNeighbour, Verdict

FORMAT = 1
"""Format of the tables below; a reader refuses any other."""

SCHEMA = MetaData()

formats = Table(
    "mad_alert_log_format", SCHEMA, Column("format", Integer, primary_key=True, autoincrement=False)
)

# SQLite counts rows up by itself only for a column that is exactly an INTEGER.
_sequence = BigInteger().with_variant(Integer, "sqlite")

alerts = Table(
    "mad_alerts",
    SCHEMA,
    Column("sequence", _sequence, primary_key=True, autoincrement=True),
    Column("alert_id", String, nullable=False, unique=True),
    Column("time", String, nullable=False),
    Column("model", String, nullable=False),
    Column("baseline", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("request_id", String, nullable=False),
    Column("input_index", BigInteger, nullable=False),
    Column("input_digest", String, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)

RETRY_KEY = (
    alerts.c.request_id,
    alerts.c.input_index,
    alerts.c.input_digest,
    alerts.c.baseline,
    alerts.c.version,
)
"""What a caller's retry of a named request repeats."""

_named = text("request_id <> ''")
Index("mad_alerts_retry", *RETRY_KEY, unique=True, sqlite_where=_named, postgresql_where=_named)
Index("mad_alerts_baseline", alerts.c.baseline, alerts.c.sequence)

# The program never edits a row; these stop a person with a database shell too.
SQLITE_GUARDS = tuple(
    f"CREATE TRIGGER mad_alerts_no_{change.lower()} BEFORE {change} ON mad_alerts "
    "BEGIN SELECT RAISE(ABORT, 'the alert log is append-only'); END"
    for change in ("UPDATE", "DELETE")
)


def to_row(alert: Alert) -> dict[str, str | int]:
    """Return the values of one row, without its sequence number; the time must name its zone."""
    assert alert.time.tzinfo is not None, "an alert's time names its zone"
    return {
        "alert_id": alert.alert_id,
        "time": alert.time.astimezone(UTC).isoformat(timespec="microseconds"),
        "model": alert.model,
        "baseline": alert.baseline,
        "version": alert.version,
        "request_id": alert.request_id,
        "input_index": alert.input_index,
        "input_digest": alert.input_digest,
        "body": json.dumps(
            {"verdict": asdict(alert.verdict), "explanation": asdict(alert.explanation)},
            separators=(",", ":"),
        ),
    }


def from_row(row: Row[tuple[Any, ...]]) -> Alert:
    """Return the alert a row holds; raises AlertLogError if the row is damaged."""
    try:
        body = json.loads(row.body)
        return Alert(
            alert_id=row.alert_id,
            time=datetime.fromisoformat(row.time),
            model=row.model,
            baseline=row.baseline,
            version=row.version,
            request_id=row.request_id,
            input_index=row.input_index,
            input_digest=row.input_digest,
            verdict=_verdict(body["verdict"]),
            explanation=_explanation(body["explanation"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AlertLogError(
            f"alert {row.alert_id} in the alert log is damaged; restore the log from a backup"
        ) from error


def _explanation(written: Mapping[str, Any]) -> Explanation:
    return Explanation(
        charges=tuple(Charge(**charge) for charge in written["charges"]),
        rest_bits=written["rest_bits"],
        nearest={
            site: SetNeighbour(
                found["row"],
                found["distance"],
                *(tuple(found[name]) for name in ("shared", "missing", "extra")),
            )
            for site, found in written.get("nearest", {}).items()
        },
    )


def _verdict(written: Mapping[str, Any]) -> Verdict:
    if "description_bits" not in written:
        unmeasured = dict.fromkeys(("surprise_bits", "mechanism_bits", "novelty_bits"), math.nan)
        parts = [{**part, "rarity_bits": math.nan} for part in written["parts"]]
        length = {"description_bits": written["surprise_bits"]}
        written = {**written, **unmeasured, **length, "parts": parts}
    return Verdict(**{**written, "parts": tuple(Part(**part) for part in written["parts"])})
