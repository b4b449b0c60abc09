"""The pages that are read: overview, alerts, one alert, one baseline."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final, final

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from mad.errors import AlertLogError, BaselineError, InputError, MadError, NotFoundError
from mad.web import page
from mad.web.asked import Asked
from mad.web.behind import View
from mad.web.history import History
from mad.web.overview import overview
from mad.web.versions import versions

PAGE_ALERTS: Final = 50
_STATUS: Final = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    InputError: HTTPStatus.BAD_REQUEST,
    AlertLogError: HTTPStatus.SERVICE_UNAVAILABLE,
    BaselineError: HTTPStatus.SERVICE_UNAVAILABLE,
}


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """Answers each page from what is behind it. Every answer is made afresh."""

    registry: CollectorRegistry
    view: View
    history: History
    clock: Callable[[], datetime]

    @property
    def routes(self) -> list[Route]:
        """Where the pages are."""
        return [
            Route("/", self._overview),
            Route("/alerts", self._alerts),
            Route("/alerts/{alert_id}", self._alert),
            Route("/baselines/{name}", self._baseline),
        ]

    def frame(self, request: Request) -> page.Frame:
        """Return what is around a page."""
        return page.Frame(
            model=self.view.model,
            is_ready=self.view.ready(),
            now=self.clock(),
            is_paused="pause" in request.query_params,
        )

    def sorry(self, request: Request, status: int, text: str) -> Response:
        """Answer that a page cannot be shown, and why."""
        title = HTTPStatus(status).phrase
        content = page.render("problem.html", self.frame(request), title=title, text=text)
        return HTMLResponse(content, status)

    def _overview(self, request: Request) -> Response:
        shown = overview(self.registry, self.view, self.history.moments)
        return HTMLResponse(page.render("overview.html", self.frame(request), shown=shown))

    def _alerts(self, request: Request) -> Response:
        asked = Asked.of(request.query_params)
        try:
            found, after = self.view.alerts(asked.wanted, PAGE_ALERTS, asked.page)
        except MadError as error:
            return self.sorry(request, _status(error), str(error))
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
            return self.sorry(request, _status(error), str(error))
        return HTMLResponse(page.render("alert.html", self.frame(request), recorded=found))

    def _baseline(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            shown = versions(self.view, name)
        except MadError as error:
            return self.sorry(request, _status(error), str(error))
        return HTMLResponse(page.render("baseline.html", self.frame(request), shown=shown))


def _status(error: MadError) -> int:
    """Return the status of an answer that could not be made."""
    kinds = (status for kind, status in _STATUS.items() if isinstance(error, kind))
    return next(kinds, HTTPStatus.INTERNAL_SERVER_ERROR)
