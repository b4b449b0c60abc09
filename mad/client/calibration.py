"""Whether the promised false-alarm rate is kept, as a running server tells."""

from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

import grpc

from mad.errors import InputError
from mad.v1 import calibration_pb2 as pb, calibration_pb2_grpc as rpc, scoring_pb2

if TYPE_CHECKING:
    from mad.v1.calibration_pb2_grpc import CalibrationServiceAsyncStub

Calibration: TypeAlias = pb.Calibration
AlarmRate: TypeAlias = pb.AlarmRate

TRAFFIC: Final = {
    "live": scoring_pb2.TRAFFIC_LIVE,
    "trusted": scoring_pb2.TRAFFIC_TRUSTED,
    "canary": scoring_pb2.TRAFFIC_CANARY,
}
"""What a request can be evidence of, by name."""


def traffic_options(traffic: str) -> scoring_pb2.ScoreOptions:
    """Return options that say what a request is evidence of; InputError for no such kind."""
    return scoring_pb2.ScoreOptions(traffic=_named(traffic))


@final
class CalibrationCall:
    """Observed alarm rates beside the promised one, and components that are used otherwise."""

    def __init__(self, channel: grpc.Channel, timeout_s: float) -> None:
        self._stub = rpc.CalibrationServiceStub(channel)
        self._timeout_s = timeout_s

    def __call__(
        self, baseline: str = "", *, traffic: str = "live", max_components: int = 0
    ) -> pb.Calibration:
        """Ask of one kind of traffic: live, trusted or canary; InputError for any other."""
        message = _request(baseline, traffic, max_components)
        return self._stub.GetCalibration(message, timeout=self._timeout_s).calibration


@final
class AsyncCalibrationCall:
    """The same as ``CalibrationCall``, for asyncio."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        stub = rpc.CalibrationServiceStub(channel)
        self._stub = cast("CalibrationServiceAsyncStub", stub)
        self._timeout_s = timeout_s

    async def __call__(
        self, baseline: str = "", *, traffic: str = "live", max_components: int = 0
    ) -> pb.Calibration:
        """Ask of one kind of traffic: live, trusted or canary; InputError for any other."""
        message = _request(baseline, traffic, max_components)
        answer = await self._stub.GetCalibration(message, timeout=self._timeout_s)
        return answer.calibration


def _request(baseline: str, traffic: str, max_components: int) -> pb.GetCalibrationRequest:
    return pb.GetCalibrationRequest(
        baseline=baseline, traffic=_named(traffic), max_components=max_components
    )


def _named(traffic: str) -> "scoring_pb2.Traffic.ValueType":
    if traffic not in TRAFFIC:
        raise InputError(f"traffic {traffic!r} is none; name {', '.join(TRAFFIC)}")
    return TRAFFIC[traffic]
