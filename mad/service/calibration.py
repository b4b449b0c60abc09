"""The calibration servicer: whether the promised false-alarm rate is kept, and what has moved."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, final

from mad.baseline.bundle import Baseline
from mad.calibration.drift import furthest
from mad.calibration.health import Health, binomial_interval, chance_interval, examine
from mad.errors import InputError
from mad.metrics import Traffic
from mad.service import convert
from mad.service.calls import Context
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
        limit = request.max_components or DEFAULT_COMPONENTS
        found = await asyncio.to_thread(_calibration, facts, seen, limit)
        found.traffic = request.traffic or scoring_pb2.TRAFFIC_LIVE
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
        rates=(
            _alarm_rate(level, int(alarms), seen.inputs)
            for level, alarms in zip(facts.levels, seen.alarms, strict=True)
        ),
        gap=abs(health.drift),
        gap_p_value=health.drift_p_value,
        drifts=_drifts(facts, seen, limit=limit),
        summary=health.verdict,
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


def _alarm_rate(level: float, alarms: int, inputs: int) -> pb.AlarmRate:
    low, high = binomial_interval(alarms, inputs)
    return pb.AlarmRate(
        nominal=level,
        alarms=alarms,
        observed=alarms / max(inputs, 1),
        observed_low=low,
        observed_high=high,
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
