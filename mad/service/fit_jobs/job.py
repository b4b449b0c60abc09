"""A fit job: what was asked for, what has come of it, and both as JSON."""

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, final, get_args

from mad.errors import ConfigError

State: TypeAlias = Literal["queued", "running", "candidate", "failed", "cancelled"]
STATES: Final[tuple[State, ...]] = get_args(State)
ENDED: Final[frozenset[State]] = frozenset({"candidate", "failed", "cancelled"})
_TIMES: Final = ("created", "started", "ended")


@final
@dataclass(frozen=True, kw_only=True)
class FitJob:
    """One fit, from its commit on.

    ``false_alarm_rate`` 0 and ``seed`` None stand for those of the settings. ``started`` and
    ``ended`` are None before; ``revision`` and ``error`` are empty before, and where there is none.
    ``quarantined`` counts inputs set aside, and ``num_bytes`` those of what was sent.
    """

    job_id: str
    state: State
    baseline: str
    request_id: str
    principal: str
    source: str
    digest: str
    inputs: int
    num_bytes: int
    false_alarm_rate: float
    seed: int | None
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    revision: str = ""
    quarantined: int = 0
    error: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """What a running job does now: ``done`` of ``total`` steps."""

    name: str = ""
    done: int = 0
    total: int = 0


def written(job: FitJob) -> bytes:
    """Write a job as JSON."""
    row: dict[str, Any] = asdict(job)
    for name in _TIMES:
        row[name] = None if row[name] is None else row[name].isoformat()
    return json.dumps(row, indent=1).encode()


def read(content: bytes, *, name: str) -> FitJob:
    """Read a job that was written, from a file called ``name``; ConfigError if it is damaged."""
    try:
        row = json.loads(content)
        for time in _TIMES:
            row[time] = None if row[time] is None else datetime.fromisoformat(row[time])
        _ = STATES.index(row["state"])
        return FitJob(**{field.name: row[field.name] for field in fields(FitJob)})
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{name} is no fit job of this version; remove its directory") from error
