"""The HTTP routes: ``/metrics``, ``/healthz``, ``/readyz`` and the pages."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mad.metrics.exposition import exposition
from mad.web import page
from mad.web.acting import Acting
from mad.web.behind import Behind
from mad.web.gate import Gated, Guarded
from mad.web.history import PERIOD_S, History
from mad.web.reading import Reading
from mad.web.sessions import Sessions


def _utc_now() -> datetime:
    return datetime.now(UTC)


def application(
    registry: CollectorRegistry,
    behind: Behind,
    *,
    clock: Callable[[], datetime] = _utc_now,
    period_s: float = PERIOD_S,
) -> Starlette:
    """Build the application; ``clock`` says when a page was made.

    Health, the style sheet and signing in are for everybody. What the charts remember is noted
    every ``period_s`` seconds.
    """
    history, sessions, view = History(registry, clock), Sessions(), behind.view
    reading = Reading(
        registry=registry,
        view=view,
        history=history,
        sessions=sessions,
        is_asking=behind.entrance.is_asking,
        clock=clock,
    )
    acting = Acting(behind=behind, sessions=sessions, reading=reading)

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
            *acting.routes,
            Route("/metrics", metrics),
            Route("/healthz", _alive),
            Route("/readyz", ready),
            Route("/style.css", _style),
            Route("/live.js", _script),
            Route("/favicon.ico", _no_icon),
        ],
        middleware=[
            Middleware(Guarded),
            Middleware(
                Gated,
                entrance=behind.entrance,
                sessions=sessions,
                sign_in=acting.sign_in_page,
            ),
        ],
        lifespan=remembering,
    )


def _alive(_: Request) -> Response:
    return PlainTextResponse("alive\n")


def _style(_: Request) -> Response:
    return Response(page.STYLE, media_type="text/css")


def _script(_: Request) -> Response:
    return Response(page.SCRIPT, media_type="text/javascript")


def _no_icon(_: Request) -> Response:
    # Browsers ask for one wherever pictures may be loaded, and complain if there is no answer.
    return Response(status_code=204)
