"""Remove the oldest alerts, a few at a time, and what belongs to them alone."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Row, delete, nulls_last, select, update

from mad.alerts.rows import written_time
from mad.alerts.tables import acknowledgements, alerts, head, incidents
from mad.alerts.values import Retention

AT_ONCE: Final = 500
"""Alerts removed in one transaction, for which appends wait."""


def remove_some(connection: Connection, retention: Retention, now: datetime) -> int:
    """Remove up to ``AT_ONCE`` of the alerts that are too old or too many; return how many.

    Alerts leave in the log's order, so one is kept as long as an older one before it is. Incidents
    leave with their last alert, acknowledgements with what they are of. Needs the head locked.
    """
    top = connection.execute(select(head)).one()
    going = _going(connection, top, retention, now)
    if not going:
        return 0
    through = going[-1]
    connection.execute(update(head).values(removed_through=through, changes=top.changes + 1))
    headless = _losing_representative(connection, through)
    for table, last in (
        (acknowledgements, acknowledgements.c.through),
        (incidents, incidents.c.last_sequence),
        (alerts, alerts.c.sequence),
    ):
        connection.execute(delete(table).where(last <= through))
    for incident_id in headless:
        _choose_representative(connection, incident_id)
    return len(going)


def _going(
    connection: Connection, top: Row[tuple[object, ...]], retention: Retention, now: datetime
) -> list[int]:
    """Return the sequence numbers of the oldest alerts that are to go."""
    too_many = top.sequence - retention.max_alerts if retention.max_alerts else 0
    too_old = written_time(now - timedelta(days=retention.days)) if retention.days else ""
    oldest = connection.execute(
        select(alerts.c.sequence, alerts.c.time).order_by(alerts.c.sequence).limit(AT_ONCE)
    )
    going = []
    for sequence, time in oldest:
        if sequence > too_many and time >= too_old:
            break
        going.append(sequence)
    return going


def _losing_representative(connection: Connection, through: int) -> list[str]:
    """Return the incidents that go on without the alert of their largest surprise."""
    query = (
        select(incidents.c.incident_id)
        .join(alerts, alerts.c.alert_id == incidents.c.representative_alert_id)
        .where(alerts.c.sequence <= through, incidents.c.last_sequence > through)
    )
    ours = alerts.c.incident_id == incidents.c.incident_id
    return list(connection.execute(query.where(ours)).scalars())


def _choose_representative(connection: Connection, incident_id: str) -> None:
    left = connection.execute(
        select(alerts.c.alert_id)
        .where(alerts.c.incident_id == incident_id)
        .order_by(nulls_last(alerts.c.surprise_bits.desc()), alerts.c.sequence)
        .limit(1)
    ).scalar_one()
    change = update(incidents).where(incidents.c.incident_id == incident_id)
    connection.execute(change.values(representative_alert_id=left))
