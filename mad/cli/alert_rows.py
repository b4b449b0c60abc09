"""Alerts as rows of a table, from the log itself or from a server, and which of them to show."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from mad.cli.verdicts import MEASURES, rarities
from mad.errors import ConfigError, InputError

if TYPE_CHECKING:
    from mad.alerts.log import AlertLog
    from mad.alerts.values import Disposition, Wanted
    from mad.client.alerts import Alert, AlertFilter

COLUMNS: Final = (
    *("time", "baseline", "request", "input"),
    *MEASURES,
    *("p-value", "what makes it rare", "found", "alert"),
)
TOP: Final = 3
_SQLITE: Final = "sqlite:///"
_SHORT: Final = {"set": "", "residual": "residual ", "neighbours": "nearest trusted "}
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
FOUND: Final = ("none", "any", "true_positive", "false_positive", "expected")


@final
@dataclass(frozen=True, kw_only=True)
class Question:
    """Which alerts to show; ``found`` is one of ``FOUND``, or empty for all."""

    baseline: str
    since: datetime | None
    incident: str
    request: str
    least_bits: float
    found: str

    def __post_init__(self) -> None:
        if self.found and self.found not in FOUND:
            raise InputError(f"--found {self.found!r} is unknown; use one of {', '.join(FOUND)}")

    @property
    def is_acknowledged(self) -> bool | None:
        """Whether somebody has said what they are; None for either."""
        return {"none": False, "any": True}.get(self.found)

    @property
    def disposition(self) -> "Disposition | None":
        """What somebody has said."""
        match self.found:
            case "true_positive" | "false_positive" | "expected":
                return self.found
            case _:
                return None


def moment(text: str, *, now: datetime) -> datetime | None:
    """Read a time such as 2026-03-01T12:30 in UTC, or one before now such as 90m, 2h or 3d."""
    if not text:
        return None
    try:
        if text[-1] in _UNITS:
            return now - timedelta(**{_UNITS[text[-1]]: float(text[:-1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"--since {text!r} is no time; write 90m, 2h, 3d, or 2026-03-01T12:30"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def from_log(url: str, question: Question, limit: int) -> list[tuple[str, ...]]:
    """Read the newest alerts from the log, without a server; ConfigError if there is none."""
    with opened(url) as log:
        page, _ = log.listing(wanted(question), limit, "")
    return [
        (
            f"{one.alert.time:%Y-%m-%d %H:%M:%S}",
            f"{one.alert.baseline}@{one.alert.version}",
            one.alert.request_id,
            str(one.alert.input_index),
            *rarities(one.alert.verdict),
            f"{one.alert.verdict.p_value:.3g}",
            _top((it.site, it.term, it.index) for it in one.alert.explanation.charges),
            one.acknowledgement.disposition if one.acknowledgement else "",
            one.alert.alert_id,
        )
        for one in page
    ]


@contextmanager
def opened(url: str) -> "Iterator[AlertLog]":
    """Open an alert log that is there; ConfigError if it is not."""
    from mad.alerts.log import AlertLog

    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).is_file():
        raise ConfigError(f"there is no alert log {url} yet; `mad serve` makes it")
    log = AlertLog.open(url)
    try:
        yield log
    finally:
        log.close()


def from_messages(alerts: Iterable["Alert"]) -> list[tuple[str, ...]]:
    """Return alerts that a server sent as rows."""
    from mad.client import disposition, term

    return [
        (
            f"{alert.raise_time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            alert.baseline_revision,
            alert.request_id,
            str(alert.input_index),
            *rarities(alert.verdict),
            f"{alert.verdict.p_value:.3g}",
            _top((one.site, term(one), one.index) for one in alert.explanation.charges),
            disposition(alert),
            alert.alert_id,
        )
        for alert in alerts
    ]


def message(question: Question) -> "AlertFilter":
    """Return what to ask a server."""
    from mad.client import alert_filter

    return alert_filter(
        begin=question.since,
        incident_id=question.incident,
        request_id=question.request,
        least_surprise_bits=question.least_bits,
        found=question.disposition or question.is_acknowledged,
    )


def wanted(question: Question) -> "Wanted":
    """Return what to ask a log."""
    from mad.alerts.values import Wanted

    return Wanted(
        baseline=question.baseline,
        begin=question.since,
        incident_id=question.incident,
        request_id=question.request,
        least_surprise_bits=question.least_bits,
        is_acknowledged=question.is_acknowledged,
        disposition=question.disposition,
    )


def _top(charges: Iterable[tuple[str, str, int]]) -> str:
    """Name the first charges, each a site, a term and an index."""
    return ", ".join(named(charge) for charge in islice(charges, TOP))


def named(charge: tuple[str, str, int]) -> str:
    """Name a charge's site, term and index."""
    site, term, index = charge
    return f"{site} {_SHORT.get(term, term + ' ')}{index}"
