"""The HTTP routes: ``/metrics``, ``/healthz``, ``/readyz`` and the page at ``/``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mad.baseline.bundle import Manifest
from mad.errors import AlertLogError
from mad.types import Alert
from mad.web import figures, page

LATEST_ALERTS: Final = 20
_OPEN: Final = frozenset({"/healthz", "/readyz"})

_HEADERS: Final = {
    # Nothing may load or run but the style sheet served here, so that a hostile string that
    # slipped through the escaping could still do nothing.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@final
@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows besides metrics; each is asked afresh, from any thread.

    ``alerts`` returns at most so many, newest first, and may raise AlertLogError; ``baselines``
    returns those loaded; ``ready`` says whether requests would be answered.
    """

    model: str
    ready: Callable[[], bool]
    alerts: Callable[[int], Sequence[Alert]]
    baselines: Callable[[], Sequence[Manifest]]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def everybody(_: Sequence[str]) -> int:
    """Let every request read."""
    return HTTPStatus.OK


def application(
    registry: CollectorRegistry,
    view: View,
    *,
    status_for: Callable[[Sequence[str]], int] = everybody,
    clock: Callable[[], datetime] = _utc_now,
) -> Starlette:
    """Build the application; ``clock`` says when a page was made.

    ``status_for`` says, from a request's authorization headers, whether it may read metrics and the
    page: 200, or 401 or 403. Health is for everybody.
    """

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    def ready(_: Request) -> Response:
        if view.ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", status_code=503)

    def watch(request: Request) -> Response:
        alerts, problem = _latest(view)
        content = page.Content(
            model=view.model,
            is_ready=view.ready(),
            now=clock(),
            figures=figures.read(registry),
            baselines=view.baselines(),
            alerts=alerts,
            alerts_problem=problem,
            open_alert=request.query_params.get("alert", ""),
            is_paused="pause" in request.query_params,
        )
        return HTMLResponse(page.render(content))

    return Starlette(
        routes=[
            Route("/", watch),
            Route("/metrics", metrics),
            Route("/healthz", _alive),
            Route("/readyz", ready),
            Route("/style.css", _style),
        ],
        middleware=[Middleware(_Guarded), Middleware(_Gated, status_for=status_for)],
    )


def _latest(view: View) -> tuple[Sequence[Alert], str]:
    """Return the latest alerts, or why they cannot be read: the rest of the page still can."""
    try:
        return view.alerts(LATEST_ALERTS), ""
    except AlertLogError as error:
        return (), str(error)


def _alive(_: Request) -> Response:
    return PlainTextResponse("alive\n")


def _style(_: Request) -> Response:
    return Response(page.STYLE, media_type="text/css")


@final
class _Guarded:
    """Adds the security headers to every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_guarded)


@final
class _Gated:
    """Answers who may not read in place of the application, but for health."""

    def __init__(self, app: ASGIApp, *, status_for: Callable[[Sequence[str]], int]) -> None:
        self._app = app
        self._status_for = status_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        status = self._status_for(Headers(scope=scope).getlist("authorization"))
        if status == HTTPStatus.OK:
            await self._app(scope, receive, send)
            return
        challenge = {"WWW-Authenticate": 'Bearer realm="mad"'}
        headers = challenge if status == HTTPStatus.UNAUTHORIZED else {}
        text = "send authorization: Bearer TOKEN, of a principal with the role alerts.read\n"
        await PlainTextResponse(text, status, headers)(scope, receive, send)
