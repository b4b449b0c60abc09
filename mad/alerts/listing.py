"""Read alerts as they stand: pages by what is wanted, one by its id, those after a place."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import BigInteger

from mad.alerts import acknowledging, rows
from mad.alerts.tables import acknowledgements, alerts as table
from mad.alerts.tokens import read_token, write_token
from mad.alerts.values import Recorded, Wanted


class _Larger(GenericFunction[int]):
    """The larger of two numbers, which the databases name differently."""

    type = BigInteger()
    inherit_cache = True
    name = "greatest"


@compiles(_Larger, "sqlite")
def _in_sqlite(element: _Larger, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401
    return f"max({compiler.process(element.clauses, **kwargs)})"


def _last_said() -> ColumnElement[int]:
    """Return the number of the last acknowledgement of an alert or its incident; 0 if none."""
    number = func.max(acknowledgements.c.sequence)
    of_alert = select(number).where(acknowledgements.c.alert_id == table.c.alert_id)
    of_incident = select(number).where(
        acknowledgements.c.incident_id == table.c.incident_id, table.c.incident_id != ""
    )
    return _Larger(
        *(
            func.coalesce(said.correlate(table).scalar_subquery(), 0)
            for said in (of_alert, of_incident)
        )
    )


_LAST_SAID: Final = _last_said()


def page_of(
    connection: Connection, wanted: Wanted, *, size: int, token: str
) -> tuple[list[Recorded], str]:
    """Return one page, newest first, and the token of the page after it; empty on the last."""
    asked = _asked(wanted)
    query = _narrowed(_standing(), wanted).order_by(table.c.sequence.desc()).limit(size + 1)
    if token:
        query = query.where(table.c.sequence < read_token(token, asked))
    found = _recorded(connection, query)
    shown = found[:size]
    return shown, write_token(shown[-1].sequence, asked) if len(found) > size else ""


def one(connection: Connection, alert_id: str) -> Recorded:
    """Return the alert of an id; raises NotFoundError if there is none."""
    found = _recorded(connection, _standing().where(table.c.alert_id == alert_id))
    if not found:
        raise acknowledging.no_alert(alert_id)
    return found[0]


def following(
    connection: Connection, baseline: str, *, after: int, through: int, size: int
) -> list[Recorded]:
    """Return the first alerts after a place, oldest first, and none beyond ``through``."""
    query = _narrowed(_standing(), Wanted(baseline=baseline)).where(
        table.c.sequence > after, table.c.sequence <= through
    )
    return _recorded(connection, query.order_by(table.c.sequence).limit(size))


def _standing() -> Select[Any]:
    return select(table, _LAST_SAID.label("last_said"))


def _narrowed(query: Select[Any], wanted: Wanted) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.baseline:
        conditions.append(table.c.baseline == wanted.baseline)
    if wanted.begin is not None:
        conditions.append(table.c.time >= rows.written_time(wanted.begin))
    if wanted.end is not None:
        conditions.append(table.c.time < rows.written_time(wanted.end))
    if wanted.incident_id:
        conditions.append(table.c.incident_id == wanted.incident_id)
    if wanted.request_id:
        # The index of named requests serves only queries that say they ask for such.
        conditions += [table.c.request_id == wanted.request_id, table.c.request_id != ""]
    if wanted.least_surprise_bits > 0:
        conditions.append(table.c.surprise_bits >= wanted.least_surprise_bits)
    return query.where(*conditions, *_spoken_of(wanted))


def _spoken_of(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.is_acknowledged is not None:
        conditions.append(_LAST_SAID > 0 if wanted.is_acknowledged else _LAST_SAID == 0)
    if wanted.disposition is not None:
        last = acknowledgements.alias()
        is_so = last.c.disposition == wanted.disposition
        conditions.append(exists().where(last.c.sequence == _LAST_SAID, is_so))
    return conditions


def _recorded(connection: Connection, query: Select[Any]) -> list[Recorded]:
    found: Sequence[Row[Any]] = connection.execute(query).all()
    said = acknowledging.read(connection, (row.last_said for row in found))
    return [
        Recorded(row.sequence, rows.from_row(row), row.incident_id, said.get(row.last_said))
        for row in found
    ]


def _asked(wanted: Wanted) -> str:
    """Return what tells one listing from another, for its tokens."""
    if wanted == Wanted(baseline=wanted.baseline):
        return wanted.baseline
    return hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
