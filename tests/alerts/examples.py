"""Alerts that tests of the alert log share."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from mad.types import Alert, Charge, Explanation, Part, Verdict

ALERT = Alert(
    alert_id="a",
    time=datetime(2026, 3, 1, 12, 30, 0, 250, tzinfo=timezone(timedelta(hours=2))),
    model="demo",
    baseline="default",
    version=3,
    request_id="",
    input_index=0,
    input_digest="c0ffee",
    verdict=Verdict(
        surprise_bits=11.2,
        mechanism_bits=11.5,
        novelty_bits=0.75,
        description_bits=9.5,
        p_value=1 / 2401,
        is_alert=True,
        parts=(Part("act1", "set", 9.5, 11.0, 6.25),),
        context=7,
        active_components=16,
    ),
    explanation=Explanation((Charge("act1", "set", 41, 9.0, 0.5, 2.5, 0.0),), 0.5),
)


def numbered(count: int, *, baseline: str = "default") -> list[Alert]:
    """Return alerts whose ids are the baseline's name and a number."""
    return [replace(ALERT, alert_id=f"{baseline}{i}", baseline=baseline) for i in range(count)]


def ids(alerts: Sequence[Alert]) -> list[str]:
    """Return the ids of alerts."""
    return [alert.alert_id for alert in alerts]


def about(
    alert_id: str,
    *components: int,
    context: int = 7,
    surprise_bits: float = 11.0,
    seconds: float = 0,
) -> Alert:
    """Return an alert over some components, raised some seconds after the others."""
    charges = tuple(Charge("act1", "set", index, 9.0, 0.5, 2.5, 0.0) for index in components)
    verdict = replace(ALERT.verdict, context=context, surprise_bits=float(surprise_bits))
    return replace(
        ALERT,
        alert_id=alert_id,
        time=ALERT.time + timedelta(seconds=seconds),
        verdict=verdict,
        explanation=Explanation(charges, 0.5),
    )
