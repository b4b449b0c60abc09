"""What is around every answer: the security headers, and who may have it."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN: Final = frozenset({"/healthz", "/readyz"})

_HEADERS: Final = {
    # Nothing may load or run but the two files served here, so that a hostile string that slipped
    # through the escaping could still do nothing.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@final
class Guarded:
    """Adds the security headers to every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_guarded)


@final
class Gated:
    """Answers who may not read in place of the application, but for health."""

    def __init__(self, app: ASGIApp, *, status_for: Callable[[Sequence[str]], int]) -> None:
        self._app = app
        self._status_for = status_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
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
