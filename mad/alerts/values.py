"""What the alert log says of alerts: where they stand, what people found them to be, incidents."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias, final

from mad.types import Alert, Site, Term

SHOWN_MECHANISMS: Final = 8
"""Mechanisms that an incident names."""

Disposition: TypeAlias = Literal["true_positive", "false_positive", "expected"]
"""What a person found an alert to be: an anomaly, nothing of note, or unusual and known to be."""


@final
@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a person found an alert to be; ``principal`` is empty where nobody was asked."""

    disposition: Disposition
    comment: str
    principal: str
    time: datetime


@final
@dataclass(frozen=True, slots=True)
class Recorded:
    """An alert as it stands in the log.

    Alerts are in order by ``sequence``, counted from one without gaps, whatever clocks did.
    ``incident_id`` is empty for alerts from before incidents were kept. Of several
    acknowledgements this is the last; None is that of an alert nobody has spoken of.
    """

    sequence: int
    alert: Alert
    incident_id: str
    acknowledgement: Acknowledgement | None


@final
@dataclass(frozen=True, slots=True)
class Mechanism:
    """What a charge is of."""

    site: Site
    term: Term
    index: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Alerts of one model, baseline and context that share a mechanism.

    ``profile`` is what they have in common: mechanisms and their mean shares of an alert's rarity,
    the largest first. ``alerts`` counts all that ever joined, of which retention may have removed
    some; the representative is the one of the largest surprise among those it has not.
    ``first_time`` and ``last_time`` are those of its first and its last alert in the log's order,
    and ``last_sequence`` is the last's place there. A closed incident takes no more alerts.
    """

    incident_id: str
    model: str
    baseline: str
    context: int
    profile: tuple[tuple[Mechanism, float], ...]
    alerts: int
    first_time: datetime
    last_time: datetime
    last_sequence: int
    most_surprise_bits: float
    representative_alert_id: str
    is_open: bool

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """What its alerts have in common, what accounts for most of their rarity first."""
        return tuple(key for key, _ in self.profile[:SHOWN_MECHANISMS])


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which alerts to list: those of which everything that is given is true.

    Raised at ``begin`` or later and before ``end``; with at least ``least_surprise_bits``, which
    zero or less does not ask for; last acknowledged as ``disposition``.
    """

    baseline: str = ""
    begin: datetime | None = None
    end: datetime | None = None
    incident_id: str = ""
    request_id: str = ""
    least_surprise_bits: float = 0.0
    is_acknowledged: bool | None = None
    disposition: Disposition | None = None


@final
@dataclass(frozen=True, slots=True)
class Retention:
    """What the log keeps: alerts of so many days, and so many; 0 keeps all."""

    days: float = 0.0
    max_alerts: int = 0
