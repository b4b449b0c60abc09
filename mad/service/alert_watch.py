"""One caller's watch of the alert log: what it missed, then what comes, at the pace it reads."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, final

from mad.alerts.log import AlertLog, Position
from mad.alerts.tokens import read_token, write_token
from mad.errors import InputError, ShuttingDownError
from mad.service import convert_alerts
from mad.service.arrivals import Arrivals
from mad.v1 import alerts_pb2 as pb

PAGE: Final = 64
"""Alerts in memory for one watcher, however slowly it reads."""
HEARTBEAT_S: Final = 10.0


@final
@dataclass(frozen=True, kw_only=True)
class AlertWatch:
    """What every watch of one server shares."""

    alert_log: AlertLog
    arrivals: Arrivals
    draining: asyncio.Event
    heartbeat_s: float = HEARTBEAT_S

    async def follow(
        self, request: pb.WatchAlertsRequest
    ) -> AsyncGenerator[pb.WatchAlertsResponse]:
        """Yield alerts in the order of the log, and signs of life that move the token on.

        The first answer is such a sign, so that a caller has a token before any alert. Who was
        away for longer than alerts are kept goes on with the oldest there is; sequence numbers
        have no gaps, so it can tell. Ends with ShuttingDownError when the server drains.
        """
        position = await asyncio.to_thread(self.alert_log.position)
        place = (
            _resumed(request.resume_token, position) if request.resume_token else position.sequence
        )
        yield pb.WatchAlertsResponse(resume_token=write_token(place, position.log_id))
        with self.arrivals.watching():
            while not self.draining.is_set():
                news = self.arrivals.news
                found, place = await asyncio.to_thread(
                    self.alert_log.following, request.baseline, after=place, size=PAGE
                )
                for one in found:
                    token = write_token(one.sequence, position.log_id)
                    yield pb.WatchAlertsResponse(
                        alert=convert_alerts.recorded(one), resume_token=token
                    )
                if len(found) < PAGE and not await self._wait(news):
                    yield pb.WatchAlertsResponse(resume_token=write_token(place, position.log_id))
        raise ShuttingDownError("the server is shutting down; go on at another replica")

    async def _wait(self, news: asyncio.Event) -> bool:
        """Wait for alerts or the drain; return False if it is time for a sign of life instead."""
        waits = [asyncio.create_task(event.wait()) for event in (news, self.draining)]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=self.heartbeat_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
        return bool(done)


def _resumed(token: str, position: Position) -> int:
    place = read_token(token, position.log_id, name="resume token")
    if place > position.sequence:
        raise InputError(
            f"resume token {token!r} is of alert {place}, and this log has come to "
            f"{position.sequence}: it was restored from an older copy; leave the token empty"
        )
    return place
