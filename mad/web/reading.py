"""The pages that are read: overview, alerts, one alert, one baseline."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final, final

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from mad.errors import (
    AlertLogError,
    AuditError,
    BaselineError,
    BaselineNotFoundError,
    ConflictError,
    ForbiddenError,
    GateError,
    InputError,
    MadError,
    NotFoundError,
    OverloadedError,
    ShuttingDownError,
    UnauthenticatedError,
)
from mad.web import page
from mad.web.asked import Asked
from mad.web.behind import View
from mad.web.history import History
from mad.web.nearest import nearest, picture
from mad.web.overview import overview
from mad.web.sessions import Sessions
from mad.web.versions import versions

PAGE_ALERTS: Final = 50
# The first that fits holds.
_STATUS: Final = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    BaselineNotFoundError: HTTPStatus.NOT_FOUND,
    InputError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    ConflictError: HTTPStatus.CONFLICT,
    GateError: HTTPStatus.CONFLICT,
    BaselineError: HTTPStatus.SERVICE_UNAVAILABLE,
    AlertLogError: HTTPStatus.SERVICE_UNAVAILABLE,
    AuditError: HTTPStatus.SERVICE_UNAVAILABLE,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    ShuttingDownError: HTTPStatus.SERVICE_UNAVAILABLE,
}


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """Answers each page from what is behind it. Every answer is made afresh."""

    registry: CollectorRegistry
    view: View
    history: History
    sessions: Sessions
    is_asking: Callable[[], bool]
    clock: Callable[[], datetime]

    @property
    def routes(self) -> list[Route]:
        """Where the pages are."""
        return [
            Route("/", self._overview),
            Route("/alerts", self._alerts),
            Route("/alerts/{alert_id}", self._alert),
            Route("/alerts/{alert_id}/nearest/{row:int}.png", self._picture),
            Route("/baselines/{name}", self._baseline),
        ]

    def frame(self, request: Request, *, is_live: bool = True) -> page.Frame:
        """Return what is around a page; one that is not live does not look at itself again."""
        return page.Frame(
            visitor=request.state.visitor,
            is_asking=self.is_asking(),
            form_token=self.sessions.form_token(request.state.owner),
            at=request.url.path if request.method == "GET" else "/",
            reload_s=page.RELOAD_S if is_live else 0,
            model=self.view.model,
            is_ready=self.view.ready(),
            now=self.clock(),
            is_paused="pause" in request.query_params,
        )

    def sorry(self, request: Request, status: int, text: str) -> Response:
        """Answer that a page cannot be shown, and why."""
        title = HTTPStatus(status).phrase
        content = page.render(
            "problem.html", self.frame(request, is_live=False), title=title, text=text
        )
        return HTMLResponse(content, status)

    def _overview(self, request: Request) -> Response:
        shown = overview(self.registry, self.view, self.history.moments)
        return HTMLResponse(page.render("overview.html", self.frame(request), shown=shown))

    def _alerts(self, request: Request) -> Response:
        asked = Asked.of(request.query_params)
        try:
            found, after = self.view.alerts(asked.wanted, PAGE_ALERTS, asked.page)
        except MadError as error:
            return self.sorry(request, status_of(error), str(error))
        content = page.render(
            "alerts.html",
            self.frame(request),
            asked=asked,
            alerts=found,
            after=after,
            names=[baseline.manifest.name for baseline in self.view.baselines()],
        )
        return HTMLResponse(content)

    def _alert(self, request: Request) -> Response:
        try:
            found = self.view.alert(request.path_params["alert_id"])
        except MadError as error:
            return self.sorry(request, status_of(error), str(error))
        return HTMLResponse(
            page.render(
                "alert.html",
                self.frame(request),
                recorded=found,
                seen=nearest(self.view, found.alert),
                request_id=str(uuid.uuid4()),
            )
        )

    def _picture(self, request: Request) -> Response:
        try:
            found = self.view.alert(request.path_params["alert_id"])
            seen = picture(self.view, found, request.path_params["row"])
        except MadError as error:
            return PlainTextResponse(f"{error}\n", status_of(error))
        return Response(seen.png, media_type="image/png")

    def _baseline(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            shown = versions(self.view, name)
        except MadError as error:
            return self.sorry(request, status_of(error), str(error))
        return HTMLResponse(
            page.render(
                "baseline.html",
                self.frame(request),
                shown=shown,
                done=request.query_params.get("done", ""),
            )
        )


def status_of(error: MadError) -> int:
    """Return the status of an answer that could not be made."""
    kinds = (status for kind, status in _STATUS.items() if isinstance(error, kind))
    return next(kinds, HTTPStatus.INTERNAL_SERVER_ERROR)
