"""What is around every answer: the security headers, who is there, and whether they may read."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final, final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mad.errors import UnauthenticatedError
from mad.web.behind import Entrance, Visitor
from mad.web.sessions import Sessions

SIGN_IN: Final = "/sign-in"
_OPEN: Final = frozenset({"/healthz", "/readyz", "/style.css", "/live.js", "/favicon.ico", SIGN_IN})
_NOBODY: Final = Visitor("", b"", frozenset())

_HEADERS: Final = {
    # Nothing may load or run but what is served here, so that a hostile string that slipped
    # through the escaping could still do nothing.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Browsers say "null" where a form comes from under no-referrer, and forms must say it.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def cookie_name(request: Request) -> str:
    """Name the cookie of this server's sessions: browsers send those of all ports of a host."""
    return "__Host-mad" if request.url.scheme == "https" else f"mad-{request.url.port or 80}"


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
    """Finds out who is there, and answers who may not read in place of the application.

    ``sign_in`` makes the page for people who may not, with a status. The application finds the
    ``visitor`` in the request's state, and ``owner``, whom the tokens of forms are for.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        entrance: Entrance,
        sessions: Sessions,
        sign_in: Callable[[Request, int], Response],
    ) -> None:
        self._app = app
        self._entrance = entrance
        self._sessions = sessions
        self._sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        status = self._met(request)
        if status == HTTPStatus.OK or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        if "text/html" in request.headers.get("accept", ""):
            answer = await run_in_threadpool(self._sign_in, request, status)
        else:
            text = "send authorization: Bearer TOKEN, of a principal with the role alerts.read\n"
            answer = PlainTextResponse(text, status)
        if status == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="mad"'
        await answer(scope, receive, send)

    def _met(self, request: Request) -> int:
        """Note who is there, and return whether they may read: 200, or 401 or 403."""
        request.state.visitor, request.state.owner = _NOBODY, b""
        headers = request.headers.getlist("authorization")
        session_id = request.cookies.get(cookie_name(request), "")
        try:
            if headers:
                credential = owner = self._entrance.credential(headers)
            else:
                credential = self._sessions.credential(session_id)
                owner = session_id.encode() if credential else b""
            visitor = self._entrance.visitor(credential)
        except UnauthenticatedError:
            self._sessions.end(session_id)
            return HTTPStatus.UNAUTHORIZED
        request.state.visitor, request.state.owner = visitor, owner
        if "read" in visitor.deeds:
            return HTTPStatus.OK
        return HTTPStatus.FORBIDDEN if credential else HTTPStatus.UNAUTHORIZED
