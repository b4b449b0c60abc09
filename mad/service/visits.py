"""What people do on the page: as over gRPC, as who they are, in the server's event loop."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar, final

from mad.alerts.values import Disposition
from mad.baseline.pointer import Expected
from mad.errors import ForbiddenError, ShuttingDownError
from mad.service.alerts import AlertServicer
from mad.service.auth.guard import Guard
from mad.service.auth.methods import METHODS
from mad.service.caller import Principal, caller
from mad.service.convert_alerts import NUMBERS
from mad.service.promotion.promoting import Promoting
from mad.v1 import alerts_pb2 as pb

Result = TypeVar("Result")
Deed: TypeAlias = Literal["read", "acknowledge", "promote"]

_AS_OVER_GRPC: Final[Mapping[Deed, str]] = {
    "read": "/mad.v1.AlertService/ListAlerts",
    "acknowledge": "/mad.v1.AlertService/AcknowledgeAlert",
    "promote": "/mad.v1.BaselineService/PromoteBaseline",
}


@final
@dataclass(frozen=True)
class Visits:
    """Each call waits in its own thread for the event loop, and is for who shows ``credential``.

    All raise UnauthenticatedError for a token that was taken away, ForbiddenError for a role that
    is missing, ShuttingDownError for a server that does not run, and what the same raises over
    gRPC.
    """

    guard: Guard
    alerts: AlertServicer
    promoting: Promoting

    def deeds(self, principal: Principal) -> frozenset[Deed]:
        """Return what somebody may do."""
        return frozenset(
            deed for deed, path in _AS_OVER_GRPC.items() if principal.roles & METHODS[path]
        )

    def acknowledge(
        self,
        credential: bytes,
        *,
        alert_id: str = "",
        incident_id: str = "",
        disposition: Disposition,
        comment: str,
        request_id: str,
    ) -> None:
        """Record what somebody found an alert or an incident to be."""
        target = {"alert_id": alert_id} if alert_id else {"incident_id": incident_id}
        request = pb.AcknowledgeAlertRequest(
            disposition=NUMBERS[disposition], comment=comment, request_id=request_id, **target
        )
        self._run(credential, "acknowledge", lambda: self.alerts.acknowledge(request))

    def promote(self, credential: bytes, revision: str, expected: int | None) -> None:
        """Make a version the active one in place of the one expected, if it passes every gate."""
        wanted: Expected = "none" if expected is None else expected
        self._run(credential, "promote", lambda: self.promoting.promote(revision, "active", wanted))

    def go_back(self, credential: bytes, name: str, expected: int | None) -> None:
        """Make the version before the one expected the active one again."""
        wanted: Expected = "none" if expected is None else expected
        self._run(credential, "promote", lambda: self.promoting.go_back(name, wanted))

    def _run(
        self, credential: bytes, deed: Deed, call: Callable[[], Coroutine[Any, Any, Result]]
    ) -> Result:
        loop = self.guard.loop
        if loop is None or not loop.is_running():
            raise ShuttingDownError("the server does not run; try again once it is ready")
        return asyncio.run_coroutine_threadsafe(
            self._admitted(credential, deed, call), loop
        ).result()

    async def _admitted(
        self, credential: bytes, deed: Deed, call: Callable[[], Coroutine[Any, Any, Result]]
    ) -> Result:
        principal = self.guard.visiting(credential)
        needed = METHODS[_AS_OVER_GRPC[deed]]
        if not principal.roles & needed:
            roles = ", ".join(sorted(needed | {"admin"}))
            self.guard.note_visit(principal)
            name = principal.name or "who has not signed in"
            raise ForbiddenError(f"{name} may not do this; it takes one of the roles {roles}")
        caller.set(principal)
        return await call()
