"""Alerts of a running server: watched as they are raised, acknowledged, grouped into incidents."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

import grpc

from mad.errors import InputError
from mad.v1 import alerts_pb2 as pb, alerts_pb2_grpc as rpc

if TYPE_CHECKING:
    from mad.v1.alerts_pb2_grpc import AlertServiceAsyncStub

Alert: TypeAlias = pb.Alert
AlertFilter: TypeAlias = pb.AlertFilter
Disposition: TypeAlias = Literal["true_positive", "false_positive", "expected"]
"""What an alert was found to be: an anomaly, nothing of note, or unusual and known to be so."""

_PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,  # what a server that stops may say of a stream
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0


@final
@dataclass(frozen=True)
class AlertCalls:
    """Alerts of a running server. ``timeout_s`` is for every call but ``watch``."""

    stub: rpc.AlertServiceStub
    timeout_s: float

    def get(self, alert_id: str) -> pb.Alert:
        """Return one alert."""
        message = pb.GetAlertRequest(alert_id=alert_id)
        return self.stub.GetAlert(message, timeout=self.timeout_s).alert

    def watch(
        self, baseline: str = "", *, resume_token: str = ""
    ) -> Iterator[pb.WatchAlertsResponse]:
        """Yield each alert exactly once as it is raised, with the token to go on after it.

        Without a token that begins now. A server that drains or is lost is waited for, or another
        of the same log asked, from where this was. Raises what the first server answers if that is
        an error. Alerts that retention removed meanwhile are passed over: sequence numbers have no
        gaps otherwise.
        """
        token, pause_s = resume_token, 0.0
        while True:
            call = self.stub.WatchAlerts(_watch(baseline, token))
            try:
                for answer in call:
                    token, pause_s = answer.resume_token, 0.0
                    if answer.HasField("alert"):
                        yield answer
            except grpc.RpcError as error:
                pause_s = _pause(error, token, pause_s)
            finally:
                call.cancel()
            time.sleep(pause_s)

    def acknowledge(
        self,
        found: Disposition,
        *,
        alert_id: str = "",
        incident_id: str = "",
        comment: str = "",
        request_id: str = "",
    ) -> pb.AcknowledgeAlertResponse:
        """Say what an alert, or every alert of an incident, was found to be.

        Calls with the same ``request_id``, made up if there is none, record one acknowledgement.
        """
        message = _acknowledge(found, alert_id, incident_id, comment, request_id)
        return self.stub.AcknowledgeAlert(message, timeout=self.timeout_s)

    def incidents(
        self,
        baseline: str = "",
        *,
        page_size: int = 0,
        page_token: str = "",
        include_closed: bool = False,
    ) -> pb.ListIncidentsResponse:
        """Return one page of incidents, those last seen first."""
        message = _incidents(baseline, page_size, page_token, include_closed)
        return self.stub.ListIncidents(message, timeout=self.timeout_s)


@final
@dataclass(frozen=True)
class AsyncAlertCalls:
    """The same as ``AlertCalls``, for asyncio."""

    stub: "AlertServiceAsyncStub"
    timeout_s: float

    async def get(self, alert_id: str) -> pb.Alert:
        """Return one alert."""
        message = pb.GetAlertRequest(alert_id=alert_id)
        return (await self.stub.GetAlert(message, timeout=self.timeout_s)).alert

    async def watch(
        self, baseline: str = "", *, resume_token: str = ""
    ) -> AsyncGenerator[pb.WatchAlertsResponse]:
        """Yield each alert exactly once, as ``AlertCalls.watch`` does."""
        token, pause_s = resume_token, 0.0
        while True:
            call = self.stub.WatchAlerts(_watch(baseline, token))
            try:
                async for answer in call:
                    token, pause_s = answer.resume_token, 0.0
                    if answer.HasField("alert"):
                        yield answer
            except grpc.RpcError as error:
                pause_s = _pause(error, token, pause_s)
            finally:
                call.cancel()
            await asyncio.sleep(pause_s)

    async def acknowledge(
        self,
        found: Disposition,
        *,
        alert_id: str = "",
        incident_id: str = "",
        comment: str = "",
        request_id: str = "",
    ) -> pb.AcknowledgeAlertResponse:
        """Say what was found, as ``AlertCalls.acknowledge`` does."""
        message = _acknowledge(found, alert_id, incident_id, comment, request_id)
        return await self.stub.AcknowledgeAlert(message, timeout=self.timeout_s)

    async def incidents(
        self,
        baseline: str = "",
        *,
        page_size: int = 0,
        page_token: str = "",
        include_closed: bool = False,
    ) -> pb.ListIncidentsResponse:
        """Return one page of incidents, those last seen first."""
        message = _incidents(baseline, page_size, page_token, include_closed)
        return await self.stub.ListIncidents(message, timeout=self.timeout_s)


def alert_filter(
    *,
    begin: datetime | None = None,
    end: datetime | None = None,
    incident_id: str = "",
    request_id: str = "",
    least_surprise_bits: float = 0.0,
    found: Disposition | bool | None = None,
) -> pb.AlertFilter:
    """Build what narrows a listing to alerts of which all that is given is true.

    Raised at ``begin`` or later and before ``end``, which name their zones; ``found`` is what they
    were last acknowledged as, or whether they were at all.
    """
    asked = pb.AlertFilter(
        incident_id=incident_id, request_id=request_id, least_surprise_bits=least_surprise_bits
    )
    if begin is not None:
        asked.begin_time.FromDatetime(begin)
    if end is not None:
        asked.end_time.FromDatetime(end)
    match found:
        case bool():
            asked.is_acknowledged = found
        case str():
            asked.disposition = disposition_of(found)
    return asked


def disposition(alert: pb.Alert) -> str:
    """Name what an alert was last found to be; empty if nobody has said, or its bare number.

    A newer server may know dispositions that this client does not.
    """
    if not alert.HasField("acknowledgement"):
        return ""
    number = alert.acknowledgement.disposition
    known = pb.Disposition.DESCRIPTOR.values_by_number.get(number)
    return known.name.removeprefix("DISPOSITION_").lower() if known else str(number)


def disposition_of(name: str) -> "pb.Disposition.ValueType":
    """Return a disposition by its name; raises InputError for another word."""
    known = {
        key.removeprefix("DISPOSITION_").lower(): number
        for key, number in pb.Disposition.items()
        if number
    }
    if name not in known:
        raise InputError(f"disposition {name!r} is unknown; use one of {', '.join(known)}")
    return known[name]


def _watch(baseline: str, token: str) -> pb.WatchAlertsRequest:
    return pb.WatchAlertsRequest(baseline=baseline, resume_token=token)


def _acknowledge(
    found: Disposition, alert_id: str, incident_id: str, comment: str, request_id: str
) -> pb.AcknowledgeAlertRequest:
    if bool(alert_id) == bool(incident_id):
        raise InputError("name either an alert_id or an incident_id")
    message = pb.AcknowledgeAlertRequest(
        disposition=disposition_of(found),
        comment=comment,
        request_id=request_id or uuid.uuid4().hex,
    )
    if alert_id:
        message.alert_id = alert_id
    else:
        message.incident_id = incident_id
    return message


def _incidents(
    baseline: str, page_size: int, page_token: str, include_closed: bool
) -> pb.ListIncidentsRequest:
    return pb.ListIncidentsRequest(
        baseline=baseline,
        page_size=page_size,
        page_token=page_token,
        include_closed=include_closed,
    )


def _pause(error: grpc.RpcError, token: str, pause_s: float) -> float:
    """Return how long to wait before another call; raise what no waiting will mend."""
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    # Without a token nothing was answered yet: the address may be wrong, and is not asked forever.
    if not token or code not in _PASSING:
        raise error
    return min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
