"""Recognise alerts that a retry of the same request raises again."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from sqlalchemy import Connection, select, tuple_

from mad.alerts.tables import RETRY_KEY, alerts as table
from mad.types import Alert

# Five values a key, and SQLite takes at most 32,766 values a statement.
_KEYS_A_QUERY: Final = 1000

RetryKey: TypeAlias = tuple[str, int, str, str, int]


def retry_key(alert: Alert) -> RetryKey:
    """Return what a retry of the same request repeats, in the order of ``tables.RETRY_KEY``."""
    return (
        alert.request_id,
        alert.input_index,
        alert.input_digest,
        alert.baseline,
        alert.version,
    )


def known_ids(connection: Connection, alerts: Sequence[Alert]) -> dict[RetryKey, str]:
    """Return the ids of those alerts of named requests that the log holds already."""
    keys = [retry_key(alert) for alert in alerts if alert.request_id]
    known: dict[RetryKey, str] = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        chunk = keys[start : start + _KEYS_A_QUERY]
        query = select(*RETRY_KEY, table.c.alert_id).where(tuple_(*RETRY_KEY).in_(chunk))
        known.update((row[:5], row[5]) for row in connection.execute(query))
    return known
