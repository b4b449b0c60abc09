"""The alert servicer: what the alert log says, and what people say of its alerts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, final

from mad.alerts.acknowledging import Finding, Recording
from mad.alerts.log import AlertLog
from mad.audit import AuditLog
from mad.errors import InputError
from mad.metrics import Metrics
from mad.service import convert_alerts
from mad.service.alert_watch import AlertWatch
from mad.service.caller import caller
from mad.service.calls import Context
from mad.v1 import alerts_pb2 as pb, alerts_pb2_grpc as rpc

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 50


@final
@dataclass(frozen=True, kw_only=True)
class AlertServicer(rpc.AlertServiceServicer):
    """Answers every call of AlertService."""

    alert_log: AlertLog
    watch: AlertWatch
    audit: AuditLog
    metrics: Metrics
    clock: Callable[[], datetime]

    async def ListAlerts(
        self, request: pb.ListAlertsRequest, context: Context
    ) -> pb.ListAlertsResponse:
        """Return one page of alerts, newest first."""
        found, token = await asyncio.to_thread(
            self.alert_log.listing,
            convert_alerts.wanted(request),
            _page_size(request.page_size),
            request.page_token,
        )
        alerts = map(convert_alerts.recorded, found)
        return pb.ListAlertsResponse(alerts=alerts, next_page_token=token)

    async def GetAlert(self, request: pb.GetAlertRequest, context: Context) -> pb.GetAlertResponse:
        """Return one alert."""
        found = await asyncio.to_thread(self.alert_log.find, request.alert_id)
        return pb.GetAlertResponse(alert=convert_alerts.recorded(found))

    def WatchAlerts(
        self, request: pb.WatchAlertsRequest, context: Context
    ) -> AsyncIterator[pb.WatchAlertsResponse]:
        """Return alerts as they are raised."""
        return self.watch.follow(request)

    async def AcknowledgeAlert(
        self, request: pb.AcknowledgeAlertRequest, context: Context
    ) -> pb.AcknowledgeAlertResponse:
        """Record what somebody found, in the audit log too; a retry records nothing more."""
        recording = await self.acknowledge(request)
        return pb.AcknowledgeAlertResponse(
            acknowledgement=convert_alerts.acknowledgement(recording.acknowledgement),
            alerts=recording.alerts,
        )

    async def ListIncidents(
        self, request: pb.ListIncidentsRequest, context: Context
    ) -> pb.ListIncidentsResponse:
        """Return one page of incidents, those last seen first."""
        read = partial(self.alert_log.incidents, include_closed=request.include_closed)
        found, token = await asyncio.to_thread(
            read, request.baseline, _page_size(request.page_size), request.page_token
        )
        incidents = map(convert_alerts.incident, found)
        return pb.ListIncidentsResponse(incidents=incidents, next_page_token=token)

    async def acknowledge(self, request: pb.AcknowledgeAlertRequest) -> Recording:
        """Record what the caller found, as ``AcknowledgeAlert`` does."""
        found = convert_alerts.finding(request, principal=caller.get().name, time=self.clock())
        # Who leaves does not take back what is being written.
        return await asyncio.shield(asyncio.to_thread(self._record, found))

    def _record(self, found: Finding) -> Recording:
        kind = "alert" if found.alert_id else "incident"
        witness = partial(
            self.audit.append,
            f"{kind}.acknowledged",
            principal=found.said.principal,
            subject=found.alert_id or found.incident_id,
            fields={"disposition": found.said.disposition, "comment": found.said.comment},
        )
        recording = self.alert_log.acknowledge(found, witness=witness)
        if recording.is_new:
            self.metrics.alerts.acknowledged(found.said.disposition, recording.alerts)
        return recording


def _page_size(asked: int) -> int:
    if not 0 <= asked <= MAX_PAGE:
        raise InputError(f"page_size is {asked}; ask for 0 to {MAX_PAGE}")
    return asked or DEFAULT_PAGE
