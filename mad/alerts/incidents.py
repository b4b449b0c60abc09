"""Incidents in the log: the open ones loaded, changed ones written, pages of them."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.dialects import postgresql, sqlite

from mad.alerts.rows import written_time
from mad.alerts.tables import incidents as table
from mad.alerts.tokens import read_token, write_token
from mad.alerts.values import Incident, Mechanism
from mad.errors import AlertLogError


def load_open(connection: Connection) -> Iterator[Incident]:
    """Read what is open, the least recently seen first."""
    query = select(table).where(table.c.is_open).order_by(table.c.last_sequence)
    return map(from_row, connection.execute(query))


def count_open(connection: Connection) -> int:
    """Count what is open."""
    query = select(func.count()).select_from(table).where(table.c.is_open)
    return int(connection.execute(query).scalar_one())


def write_changed(connection: Connection, changed: Iterable[Incident]) -> None:
    """Write incidents, whether or not they are there already."""
    new = [_to_row(incident) for incident in changed]
    if not new:
        return
    statement: sqlite.Insert | postgresql.Insert = (
        sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
    )
    values = {
        column.name: statement.excluded[column.name] for column in table.c if not column.primary_key
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=[table.c.incident_id], set_=values), new
    )


def page_of(
    connection: Connection, baseline: str, *, include_closed: bool, size: int, token: str
) -> tuple[list[Incident], str]:
    """Return one page, those last seen first, and the token of the page after it.

    One that is seen again meanwhile moves to the front, where a new listing shows it.
    """
    asked = f"incidents {include_closed} {baseline}"
    query = select(table).order_by(table.c.last_sequence.desc()).limit(size + 1)
    if baseline:
        query = query.where(table.c.baseline == baseline)
    if not include_closed:
        query = query.where(table.c.is_open)
    if token:
        query = query.where(table.c.last_sequence < read_token(token, asked))
    found = [from_row(row) for row in connection.execute(query)]
    shown = found[:size]
    return shown, write_token(shown[-1].last_sequence, asked) if len(found) > size else ""


def from_row(row: Row[tuple[Any, ...]]) -> Incident:
    """Return the incident a row holds; raises AlertLogError if the row is damaged."""
    try:
        profile = tuple(
            (Mechanism(site, term, index), share)
            for site, term, index, share in json.loads(row.profile)
        )
        return Incident(
            incident_id=row.incident_id,
            model=row.model,
            baseline=row.baseline,
            context=row.context,
            profile=profile,
            alerts=row.alerts,
            first_time=datetime.fromisoformat(row.first_time),
            last_time=datetime.fromisoformat(row.last_time),
            last_sequence=row.last_sequence,
            most_surprise_bits=row.most_surprise_bits,
            representative_alert_id=row.representative_alert_id,
            is_open=row.is_open,
        )
    except (ValueError, TypeError) as error:
        raise AlertLogError(
            f"incident {row.incident_id} in the alert log is damaged; restore the log from a backup"
        ) from error


def _to_row(incident: Incident) -> dict[str, str | int | float | bool]:
    profile = [(key.site, key.term, key.index, share) for key, share in incident.profile]
    return {
        "incident_id": incident.incident_id,
        "model": incident.model,
        "baseline": incident.baseline,
        "context": incident.context,
        "profile": json.dumps(profile, separators=(",", ":")),
        "alerts": incident.alerts,
        "first_time": written_time(incident.first_time),
        "last_time": written_time(incident.last_time),
        "last_sequence": incident.last_sequence,
        "most_surprise_bits": incident.most_surprise_bits,
        "representative_alert_id": incident.representative_alert_id,
        "is_open": incident.is_open,
    }
