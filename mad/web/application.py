"""The HTTP routes: ``/metrics``, ``/healthz``, ``/readyz`` and the pages."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mad.metrics.exposition import exposition
from mad.web import page
from mad.web.behind import View
from mad.web.gate import Gated, Guarded
from mad.web.history import PERIOD_S, History
from mad.web.reading import Reading


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
    period_s: float = PERIOD_S,
) -> Starlette:
    """Build the application; ``clock`` says when a page was made.

    ``status_for`` says, from a request's authorization headers, whether it may read metrics and the
    pages: 200, or 401 or 403. Health is for everybody. What the charts remember is noted every
    ``period_s`` seconds.
    """
    history = History(registry, clock)
    reading = Reading(registry=registry, view=view, history=history, clock=clock)

    @asynccontextmanager
    async def remembering(_: Starlette) -> AsyncIterator[None]:
        async with history.running(period_s=period_s):
            yield

    def metrics(request: Request) -> Response:
        written, content_type = exposition(registry, request.headers.get("accept", ""))
        return Response(written, headers={"content-type": content_type})

    def ready(_: Request) -> Response:
        if view.ready():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", status_code=503)

    return Starlette(
        routes=[
            *reading.routes,
            Route("/metrics", metrics),
            Route("/healthz", _alive),
            Route("/readyz", ready),
            Route("/style.css", _style),
            Route("/live.js", _script),
        ],
        middleware=[Middleware(Guarded), Middleware(Gated, status_for=status_for)],
        lifespan=remembering,
    )


def _alive(_: Request) -> Response:
    return PlainTextResponse("alive\n")


def _style(_: Request) -> Response:
    return Response(page.STYLE, media_type="text/css")


def _script(_: Request) -> Response:
    return Response(page.SCRIPT, media_type="text/javascript")
