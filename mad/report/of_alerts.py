"""The report of some alerts: how many, when, of which incidents; the latest with ledgers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, final

from mad.report.drawing import Columns, bars, columns
from mad.report.sheet import Section, Sheet, Table, facts, number

_MOST_BARS: Final = 12
_MOST_DAYS: Final = 62


@final
@dataclass(frozen=True, slots=True)
class ToldPart:
    """Bits of one site and term of an alert, and how rare so many are."""

    site: str
    term: str
    bits: float
    rarity_bits: float


@final
@dataclass(frozen=True, slots=True)
class ToldCharge:
    """A named charge of an alert, in bits, and what it typically costs."""

    name: str
    bits: float
    typical_bits: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ToldAlert:
    """An alert as reports tell it; ``found`` and ``incident_id`` are empty if there is none."""

    alert_id: str
    time: datetime
    revision: str
    request_id: str
    input_index: int
    p_value: float
    surprise_bits: float
    mechanism_bits: float
    novelty_bits: float
    found: str
    incident_id: str
    parts: tuple[ToldPart, ...]
    charges: tuple[ToldCharge, ...]

    @property
    def component(self) -> str:
        """What accounts for most of its rarity."""
        return self.charges[0].name if self.charges else "nothing charged"


def alerts_sheet(alerts: Sequence[ToldAlert], *, origin: str, latest: int, is_all: bool) -> Sheet:
    """Report on alerts, newest first; of the first ``latest`` the ledger is shown."""
    asked = f"from {origin}" if is_all else f"from {origin}; older ones are left out"
    if not alerts:
        return Sheet("Alerts", f"None, {asked}.", ())
    span = f"{alerts[-1].time:%Y-%m-%d %H:%M} to {alerts[0].time:%Y-%m-%d %H:%M} UTC"
    return Sheet(
        f"{len(alerts)} alert{'' if len(alerts) == 1 else 's'}",
        f"{span}, {asked}.",
        (_counts(alerts), *(_one(alert) for alert in alerts[:latest])),
    )


def _counts(alerts: Sequence[ToldAlert]) -> Section:
    incidents = Counter(alert.incident_id or "in no incident" for alert in alerts)
    components = Counter(alert.component for alert in alerts)
    found = Counter(alert.found.replace("_", " ") or "nobody has said" for alert in alerts)
    revisions = Counter(alert.revision for alert in alerts)
    return Section(
        title="How many",
        drawings=(
            _by_day(alerts),
            bars("By incident: alerts that share a mechanism.", _counted(incidents)),
            bars(
                "By what accounts for most of the rarity: site, term and index.",
                _counted(components),
            ),
            bars("By what people found them to be.", _counted(found)),
            bars("By baseline.", _counted(revisions)),
        ),
        tables=(
            Table(
                "Incidents",
                ("incident", "alerts", "first", "last", "most surprise, bits", "component"),
                tuple(_incident(name, alerts) for name, _ in _counted(incidents)),
            ),
        ),
    )


def _counted(counts: Counter[str]) -> list[tuple[str, float]]:
    return [(name, float(count)) for name, count in counts.most_common(_MOST_BARS)]


def _by_day(alerts: Sequence[ToldAlert]) -> Columns:
    """Count by day, days without alerts too; the latest ones where there are many."""
    days = Counter(alert.time.date() for alert in alerts)
    last = max(days)
    count = min((last - min(days)).days + 1, _MOST_DAYS)
    shown = [last - timedelta(days=back) for back in range(count - 1, -1, -1)]
    return columns("By day, in UTC.", [(f"{day:%d %b}", days[day]) for day in shown])


def _incident(name: str, alerts: Sequence[ToldAlert]) -> tuple[str, ...]:
    own = [alert for alert in alerts if (alert.incident_id or "in no incident") == name]
    (component, _), *_ = Counter(alert.component for alert in own).most_common(1)
    return (
        name,
        str(len(own)),
        f"{min(alert.time for alert in own):%Y-%m-%d %H:%M}",
        f"{max(alert.time for alert in own):%Y-%m-%d %H:%M}",
        number(max(alert.surprise_bits for alert in own)),
        component,
    )


def _one(alert: ToldAlert) -> Section:
    """Show one alert with its ledger."""
    return Section(
        title=f"Alert {alert.alert_id}",
        prose=f"{alert.time:%Y-%m-%d %H:%M:%S} UTC, {alert.revision}, p-value {alert.p_value:.3g}.",
        drawings=(
            bars(
                "Rarity of its parts, in bits: one trusted input in 2 to that power is as rare.",
                [(f"{part.site} {part.term}", part.rarity_bits) for part in alert.parts],
                unit="bits",
            ),
            bars(
                "Bits that its largest charges cost beyond what they typically do.",
                [(one.name, one.bits - one.typical_bits) for one in alert.charges[:_MOST_BARS]],
                unit="bits",
            ),
        ),
        tables=(
            facts(
                "",
                (
                    ("surprise, bits", number(alert.surprise_bits)),
                    ("mechanism, bits", number(alert.mechanism_bits)),
                    ("novelty, bits", number(alert.novelty_bits)),
                    ("request and input", f"{alert.request_id} {alert.input_index}".strip()),
                    ("incident", alert.incident_id or "none"),
                    ("found to be", alert.found.replace("_", " ") or "nobody has said"),
                ),
            ),
            Table(
                "Ledger",
                ("site", "term", "bits", "rarity, bits"),
                tuple(
                    (part.site, part.term, number(part.bits), number(part.rarity_bits))
                    for part in alert.parts
                ),
            ),
        ),
    )
