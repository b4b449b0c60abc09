"""The calibration servicer: whether the promised false-alarm rate is kept, and what has moved."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from jaxtyping import Int64

from mad.baseline.bundle import Baseline
from mad.calibration.drift import furthest
from mad.calibration.health import (
    Health,
    binomial_interval,
    binomial_intervals,
    chance_interval,
    examine,
)
from mad.errors import InputError
from mad.metrics import Traffic
from mad.service import convert
from mad.service.calls import Context
from mad.service.lately import Window
from mad.service.objective import gap, site_drifts
from mad.service.observed import Facts, Observations, Seen, sampled_bits
from mad.service.registry import Registry
from mad.v1 import calibration_pb2 as pb, calibration_pb2_grpc as rpc, scoring_pb2

MAX_COMPONENTS: Final = 100
DEFAULT_COMPONENTS: Final = 20

_TRAFFIC: Final[Mapping[int, Traffic]] = {
    scoring_pb2.TRAFFIC_UNSPECIFIED: "live",
    scoring_pb2.TRAFFIC_LIVE: "live",
    scoring_pb2.TRAFFIC_TRUSTED: "trusted",
    scoring_pb2.TRAFFIC_CANARY: "canary",
}


@final
@dataclass(frozen=True)
class CalibrationServicer(rpc.CalibrationServiceServicer):
    """Answers GetCalibration."""

    registry: Registry
    observations: Observations

    async def GetCalibration(
        self, request: pb.GetCalibrationRequest, context: Context
    ) -> pb.GetCalibrationResponse:
        """Hold the traffic of one kind against the reference of a loaded baseline."""
        traffic = _TRAFFIC.get(request.traffic)
        if traffic is None:
            raise InputError(
                f"traffic is {request.traffic}; use one of {scoring_pb2.Traffic.keys()}"
            )
        if not 0 <= request.max_components <= MAX_COMPONENTS:
            raise InputError(
                f"max_components is {request.max_components}; ask for 0 to {MAX_COMPONENTS}"
            )
        baseline = self._baseline(request.baseline)
        facts, seen = self.observations.look(baseline, traffic)
        lately = self.observations.lately(baseline.revision).get(traffic)
        limit = request.max_components or DEFAULT_COMPONENTS
        found = await asyncio.to_thread(_calibration, facts, seen, limit)
        found.traffic = request.traffic or scoring_pb2.TRAFFIC_LIVE
        if lately is not None:
            found.recent.CopyFrom(await asyncio.to_thread(_recent, facts, lately[1]))
        return pb.GetCalibrationResponse(calibration=found)

    def _baseline(self, name: str) -> Baseline:
        """Return a loaded baseline, or the shadow by its revision."""
        shadow = self.registry.shadow
        if shadow is not None and name == shadow.baseline.revision:
            return shadow.baseline
        return self.registry.resolve(name).baseline


def _calibration(facts: Facts, seen: Seen, limit: int) -> pb.Calibration:
    health = _health(facts, seen)
    return pb.Calibration(
        baseline_revision=facts.manifest.revision,
        begin_time=convert.timestamp(seen.began),
        inputs=seen.inputs,
        rates=_rates(facts, seen.alarms, seen.inputs),
        gap=abs(health.drift),
        gap_p_value=health.drift_p_value,
        drifts=_drifts(facts, seen, limit=limit),
        summary=health.verdict,
        wealth_log10=seen.wealth_log10,
    )


def _health(facts: Facts, seen: Seen) -> Health:
    """Count every input, and compare the distribution of those that were sampled."""
    rate = facts.manifest.false_alarm_rate
    reference = facts.reference_bits
    sampled = examine(sampled_bits(seen.sample), reference, false_alarm_rate=rate)
    alarms = int(seen.alarms[0])
    return replace(
        sampled,
        inputs=seen.inputs,
        alarms=alarms,
        observed=binomial_interval(alarms, seen.inputs),
        chance=chance_interval(rate, len(reference), inputs=seen.inputs),
    )


def _recent(facts: Facts, window: Window) -> pb.RecentCalibration:
    drifts = sorted(site_drifts(facts, window).items(), key=lambda one: -one[1])
    return pb.RecentCalibration(
        inputs=window.p.size,
        rates=_rates(facts, window.at_or_under(facts.levels), window.p.size),
        gap=gap(facts, window),
        site_drifts=[pb.SiteDrift(site=site, saved_bits=bits) for site, bits in drifts],
    )


def _rates(
    facts: Facts, alarms: Int64[np.ndarray, " level"], inputs: int
) -> Iterator[pb.AlarmRate]:
    edges = binomial_intervals(alarms, inputs).tolist()
    for level, count, (low, high) in zip(facts.levels, alarms.tolist(), edges, strict=True):
        chance = chance_interval(level, facts.measures.numel(), inputs=inputs)
        yield pb.AlarmRate(
            nominal=level,
            alarms=count,
            observed=count / max(inputs, 1),
            observed_low=low,
            observed_high=high,
            chance_low=chance.low,
            chance_high=chance.high,
        )


def _drifts(facts: Facts, seen: Seen, *, limit: int) -> list[pb.ComponentDrift]:
    if not seen.looked:
        return []
    found = [
        pb.ComponentDrift(
            view=view,
            component=moved.component,
            trusted_rate=moved.trusted_rate,
            observed_rate=moved.observed_rate,
            saved_bits=moved.saved_bits,
        )
        for view, trusted in facts.rates.items()
        for moved in furthest(seen.rates(view), trusted, limit=limit)
    ]
    return sorted(found, key=lambda drift: -drift.saved_bits)[:limit]
