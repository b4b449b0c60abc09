"""An alert as one row of a table, and back, exactly.

Columns hold what is searched; ``body`` holds the verdict and its explanation as JSON, whose floats
are written with the fewest digits that read back as the same float.

A surprise was a code length once. A verdict without ``description_bits`` is from then: its
``surprise_bits`` is read as its description, the rarities it never had are NaN, and its parts tell
no rare components.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

from mad.errors import AlertLogError
from mad.types import Alert, Charge, Explanation, Part, SetNeighbour, Verdict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def to_row(alert: Alert, *, sequence: int, incident_id: str) -> dict[str, str | int | float | None]:
    """Return the values of one row; the alert's time must name its zone."""
    surprise, nearest = alert.verdict.surprise_bits, alert.explanation.nearest
    return {
        "sequence": sequence,
        "alert_id": alert.alert_id,
        "time": written_time(alert.time),
        "model": alert.model,
        "baseline": alert.baseline,
        "version": alert.version,
        "request_id": alert.request_id,
        "input_index": alert.input_index,
        "input_digest": alert.input_digest,
        "body": json.dumps(
            {
                "verdict": _written(
                    alert.verdict, parts=[part._asdict() for part in alert.verdict.parts]
                ),
                "explanation": _written(
                    alert.explanation,
                    charges=_all(alert.explanation.charges),
                    nearest=dict(zip(nearest, _all(nearest.values()), strict=True)),
                ),
            },
            separators=(",", ":"),
        ),
        "surprise_bits": None if math.isnan(surprise) else surprise,
        "incident_id": incident_id,
    }


def _written(value: "DataclassInstance", **instead: object) -> dict[str, object]:
    """Return a value's fields, some of them replaced; ``asdict`` takes ten times as long."""
    return {name: getattr(value, name) for name in _names(type(value))} | instead


def _all(values: "Iterable[DataclassInstance]") -> list[dict[str, object]]:
    return [_written(value) for value in values]


@cache
def _names(kind: "type[DataclassInstance]") -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def written_time(time: datetime) -> str:
    """Write a time that names its zone so that texts are in order as times are."""
    assert time.tzinfo is not None, "a time in the log names its zone"
    return time.astimezone(UTC).isoformat(timespec="microseconds")


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
