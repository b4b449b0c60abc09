"""What people say of alerts, written once and never changed; the last word counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

from sqlalchemy import Connection, Row, insert, select, update

from mad.alerts.rows import written_time
from mad.alerts.tables import acknowledgements as table, alerts, head, incidents
from mad.alerts.values import Acknowledgement
from mad.errors import InputError, NotFoundError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What somebody found one alert, or all alerts of an incident, to be: exactly one is named.

    ``request_id`` may be empty; the same again records nothing more.
    """

    said: Acknowledgement
    alert_id: str = ""
    incident_id: str = ""
    request_id: str = ""


@final
@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded, and of how many alerts; not ``is_new`` if it had been before."""

    acknowledgement: Acknowledgement
    alerts: int
    is_new: bool


def record(connection: Connection, finding: Finding) -> Recording:
    """Record a finding, and close the incident it is of, so that it is of every alert there is.

    Raises NotFoundError for an unknown id, InputError for a request id of another finding.
    """
    if before := _before(connection, finding):
        return before
    through, count = (
        _alert(connection, finding.alert_id)
        if finding.alert_id
        else _closed_incident(connection, finding.incident_id)
    )
    said = finding.said
    connection.execute(
        insert(table),
        {
            "alert_id": finding.alert_id,
            "incident_id": finding.incident_id,
            "through": through,
            "alerts": count,
            "disposition": said.disposition,
            "comment": said.comment,
            "principal": said.principal,
            "time": written_time(said.time),
            "request_id": finding.request_id,
        },
    )
    return Recording(said, count, is_new=True)


def read(connection: Connection, sequences: Iterable[int]) -> Mapping[int, Acknowledgement]:
    """Read acknowledgements by their sequence numbers."""
    query = select(table).where(table.c.sequence.in_(set(sequences) - {0}))
    return {row.sequence: _from_row(row) for row in connection.execute(query)}


def _from_row(row: Row[tuple[Any, ...]]) -> Acknowledgement:
    time = datetime.fromisoformat(row.time)
    return Acknowledgement(row.disposition, row.comment, row.principal, time)


def _before(connection: Connection, finding: Finding) -> Recording | None:
    """Return what the same request recorded before, if it did."""
    if not finding.request_id:
        return None
    query = select(table).where(table.c.request_id == finding.request_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    said = (row.alert_id, row.incident_id, row.disposition)
    if said != (finding.alert_id, finding.incident_id, finding.said.disposition):
        raise InputError(
            f"request_id {finding.request_id!r} was that of another acknowledgement, of "
            f"{row.alert_id or row.incident_id} as {row.disposition}; send a new one"
        )
    return Recording(_from_row(row), row.alerts, is_new=False)


def _alert(connection: Connection, alert_id: str) -> tuple[int, int]:
    query = select(alerts.c.sequence).where(alerts.c.alert_id == alert_id)
    sequence = connection.execute(query).scalar_one_or_none()
    if sequence is None:
        raise no_alert(alert_id)
    return sequence, 1


def no_alert(alert_id: str) -> NotFoundError:
    """Say that there is no such alert."""
    return NotFoundError(
        f"there is no alert {alert_id[:80]!r}; retention may have removed it: list those there are"
    )


def _closed_incident(connection: Connection, incident_id: str) -> tuple[int, int]:
    ours = incidents.c.incident_id == incident_id
    found = connection.execute(select(incidents).where(ours)).one_or_none()
    if found is None:
        raise NotFoundError(
            f"there is no incident {incident_id[:80]!r}; retention may have removed it: list those "
            "there are, with closed ones"
        )
    if found.is_open:
        connection.execute(update(incidents).where(ours).values(is_open=False))
        connection.execute(update(head).values(changes=head.c.changes + 1))
    return found.last_sequence, found.alerts
