"""Group alerts into incidents as they come: each joins the nearest that is open, or opens one."""

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, final

from mad.alerts.signature import Signature, rank, signature
from mad.alerts.values import Incident, Mechanism
from mad.types import Alert

NEAR: Final = 0.35
"""Rarity that an alert must share with an incident to join it.

Of alerts that planted triggers raised, 99 in 100 pairs of one trigger share more, and 99 in 100
pairs of different triggers, or of a trigger and a false alarm, share less.
"""
_MEMORY: Final = 64
"""An incident's profile is about the mean of so many alerts, so it follows one that drifts."""
_PROFILE: Final = 32
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_NAMESPACE: Final = uuid.UUID("6d1f3c0e-6f0c-5f61-9c59-1f0a5c3f7b52")


@final
@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How long an incident stays open without an alert, in seconds, and how many may be open."""

    quiet_s: float = 3600.0
    max_open: int = 128


_Place: TypeAlias = tuple[str, str, int]
"""Model, baseline and context."""

_NOTHING: Final = (Mechanism("", "set", -1), 1.0)
"""Stands in the index for alerts that nothing was named of."""


@final
class OpenIncidents:
    """The open incidents of a log, the least recently seen first.

    Deterministic: the same alerts in the same order make the same incidents. Law: alerts whose
    mechanisms have nothing in common never change each other's incidents, in whatever order they
    come, as long as no more are open than may be.
    """

    def __init__(self, incidents: Iterator[Incident], plan: GroupPlan) -> None:
        self._plan = plan
        self._quiet = timedelta(seconds=plan.quiet_s)
        self._open: dict[str, Incident] = {}
        self._changed: dict[str, Incident] = {}
        # By place and mechanism, since most open incidents have nothing to do with an alert.
        self._shares: dict[tuple[_Place, Mechanism], dict[str, float]] = {}
        self._earliest = _NEVER
        for incident in incidents:
            self._put(incident)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, alert: Alert, sequence: int) -> str:
        """Let an alert join an incident, and return that one's id."""
        self.close_quiet(alert.time)
        about = signature(alert)
        nearest = self._nearest(alert, about)
        if nearest is None:
            incident = _opened(alert, sequence, about)
        else:
            self._take_out(nearest)  # to come last again
            incident = _joined(nearest, alert, sequence, about)
        self._put(incident)
        self._changed[incident.incident_id] = incident
        while len(self._open) > self._plan.max_open:
            self._close(next(iter(self._open.values())))
        return incident.incident_id

    def close_quiet(self, now: datetime) -> None:
        """Close what has had no alert for so long."""
        if now - self._earliest <= self._quiet:
            return
        for incident in list(self._open.values()):
            if now - incident.last_time > self._quiet:
                self._close(incident)
        self._earliest = min((one.last_time for one in self._open.values()), default=_NEVER)

    def take_changed(self) -> list[Incident]:
        """Return what has changed since this was last asked."""
        changed = list(self._changed.values())
        self._changed.clear()
        return changed

    def _put(self, incident: Incident) -> None:
        self._open[incident.incident_id] = incident
        self._earliest = min(self._earliest, incident.last_time)
        place = _place_of(incident)
        for key, share in incident.profile or (_NOTHING,):
            self._shares.setdefault((place, key), {})[incident.incident_id] = share

    def _take_out(self, incident: Incident) -> None:
        del self._open[incident.incident_id]
        place = _place_of(incident)
        for key, _ in incident.profile or (_NOTHING,):
            sharing = self._shares[place, key]
            del sharing[incident.incident_id]
            if not sharing:
                del self._shares[place, key]

    def _close(self, incident: Incident) -> None:
        self._take_out(incident)
        self._changed[incident.incident_id] = replace(incident, is_open=False)

    def _nearest(self, alert: Alert, about: Signature) -> Incident | None:
        """Return what shares most with an alert, if that is enough; the least recent of equals."""
        place = (alert.model, alert.baseline, alert.verdict.context)
        shared: dict[str, float] = {}
        for key, share in about.items() or (_NOTHING,):
            for incident_id, other in self._shares.get((place, key), {}).items():
                shared[incident_id] = shared.get(incident_id, 0.0) + min(share, other)
        near = [self._open[incident_id] for incident_id, bits in shared.items() if bits >= NEAR]
        return min(
            near, key=lambda one: (-shared[one.incident_id], one.last_sequence), default=None
        )


def _place_of(incident: Incident) -> _Place:
    return incident.model, incident.baseline, incident.context


def _opened(alert: Alert, sequence: int, about: Signature) -> Incident:
    return Incident(
        incident_id=str(uuid.uuid5(_NAMESPACE, alert.alert_id)),
        model=alert.model,
        baseline=alert.baseline,
        context=alert.verdict.context,
        profile=tuple(about.items()),
        alerts=1,
        first_time=alert.time,
        last_time=alert.time,
        last_sequence=sequence,
        most_surprise_bits=_surprise(alert),
        representative_alert_id=alert.alert_id,
        is_open=True,
    )


def _joined(incident: Incident, alert: Alert, sequence: int, about: Signature) -> Incident:
    joined = replace(
        incident,
        profile=_mean(incident, about),
        alerts=incident.alerts + 1,
        last_time=alert.time,
        last_sequence=sequence,
    )
    surprise = _surprise(alert)
    if surprise <= incident.most_surprise_bits:
        return joined
    return replace(joined, most_surprise_bits=surprise, representative_alert_id=alert.alert_id)


def _mean(incident: Incident, about: Signature) -> tuple[tuple[Mechanism, float], ...]:
    before = min(incident.alerts, _MEMORY - 1)
    shares = {key: share * before / (before + 1) for key, share in incident.profile}
    for key, share in about.items():
        shares[key] = shares.get(key, 0.0) + share / (before + 1)
    return tuple(sorted(shares.items(), key=rank)[:_PROFILE])


def _surprise(alert: Alert) -> float:
    """Return an alert's surprise; one that is no number is below any other."""
    bits = alert.verdict.surprise_bits
    return -math.inf if math.isnan(bits) else bits
