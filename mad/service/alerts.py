"""The alert servicer: pages of the alert log."""

import asyncio
from dataclasses import dataclass
from typing import Final, final

from mad.alerts.log import AlertLog
from mad.errors import InputError
from mad.service import convert
from mad.service.calls import Context
from mad.v1 import alerts_pb2 as pb, alerts_pb2_grpc as rpc

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 50


@final
@dataclass(frozen=True)
class AlertServicer(rpc.AlertServiceServicer):
    """Answers ListAlerts."""

    alert_log: AlertLog

    async def ListAlerts(
        self, request: pb.ListAlertsRequest, context: Context
    ) -> pb.ListAlertsResponse:
        """Return one page of alerts, newest first."""
        if not 0 <= request.page_size <= MAX_PAGE:
            raise InputError(f"page_size is {request.page_size}; ask for 0 to {MAX_PAGE}")
        alerts, token = await asyncio.to_thread(
            self.alert_log.page,
            request.baseline,
            request.page_size or DEFAULT_PAGE,
            request.page_token,
        )
        return pb.ListAlertsResponse(alerts=map(convert.alert, alerts), next_page_token=token)
