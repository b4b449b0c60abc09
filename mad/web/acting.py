"""What people do on the pages: sign in and out, acknowledge, promote, go back."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias, final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from mad.errors import InputError, MadError
from mad.web import page
from mad.web.asked import DISPOSITIONS
from mad.web.behind import Behind
from mad.web.forms import check_sender, fields, local_path
from mad.web.gate import SIGN_IN, cookie_name
from mad.web.reading import Reading, status_of
from mad.web.sessions import LASTS_S, Sessions

Form: TypeAlias = Mapping[str, str]
Deed: TypeAlias = Callable[[Request, Form], Response]

_MAX_VERSION: Final = 999_999_999


@final
@dataclass(frozen=True, kw_only=True)
class Acting:
    """Does what forms ask, each as who sends it, and goes on to the page that shows it."""

    behind: Behind
    sessions: Sessions
    reading: Reading

    @property
    def routes(self) -> list[Route]:
        """Where forms are sent."""
        return [
            Route(SIGN_IN, self._sign_in_page),
            *(
                Route(path, self._after_checks(deed), methods=["POST"])
                for path, deed in (
                    (SIGN_IN, self._sign_in),
                    ("/sign-out", self._sign_out),
                    ("/alerts/{alert_id}/acknowledge", self._acknowledge),
                    ("/baselines/{name}/promote", self._promote),
                    ("/baselines/{name}/rollback", self._go_back),
                )
            ),
        ]

    def sign_in_page(self, request: Request, status: int, said: str = "") -> Response:
        """Answer with the form that takes a token, to go on to what was asked for."""
        at = request.url.path
        if at == SIGN_IN:
            at = local_path(request.query_params.get("next", "/"))
        elif request.url.query:
            at = f"{at}?{request.url.query}"
        if status == HTTPStatus.FORBIDDEN:
            said = f"{request.state.visitor.name} may not read this: it takes the role alerts.read."
        frame = self.reading.frame(request, is_live=False)
        return HTMLResponse(page.render("sign_in.html", frame, said=said, at=at), status)

    def _sign_in_page(self, request: Request) -> Response:
        return self.sign_in_page(request, HTTPStatus.OK)

    def _after_checks(self, deed: Deed) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                form = await fields(request)
                check_sender(request, form, self.sessions)
                return await run_in_threadpool(deed, request, form)
            except MadError as error:
                return await run_in_threadpool(
                    self.reading.sorry, request, status_of(error), str(error)
                )

        return answer

    def _sign_in(self, request: Request, form: Form) -> Response:
        token = form.get("token", "").strip()
        try:
            credential = self.behind.entrance.credential([f"Bearer {token}"])
        except MadError:
            said = "This token is nobody's here. Ask for one of this server."
            return self.sign_in_page(request, HTTPStatus.UNAUTHORIZED, said)
        answer = _gone_to(local_path(form.get("next", "/")))
        if credential:  # none where nobody is asked
            answer.set_cookie(
                cookie_name(request),
                self.sessions.begin(credential),
                max_age=int(LASTS_S),
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="strict",
            )
        return answer

    def _sign_out(self, request: Request, _: Form) -> Response:
        name = cookie_name(request)
        self.sessions.end(request.cookies.get(name, ""))
        answer = _gone_to("/")
        answer.delete_cookie(
            name, secure=request.url.scheme == "https", httponly=True, samesite="strict"
        )
        return answer

    def _acknowledge(self, request: Request, form: Form) -> Response:
        alert_id = request.path_params["alert_id"]
        named = form.get("disposition", "")
        disposition = next((one for one in DISPOSITIONS if one == named), None)
        if disposition is None:
            raise InputError(f"say what it is: one of {', '.join(DISPOSITIONS)}")
        target = {"alert_id": alert_id}
        if form.get("scope") == "incident":
            # What the log says, not the form: an incident that was merged or closed is found again.
            target = {"incident_id": self.behind.view.alert(alert_id).incident_id}
        self.behind.actions.acknowledge(
            request.state.visitor.credential,
            disposition=disposition,
            comment=form.get("comment", "").replace("\r\n", "\n").strip(),
            request_id=form.get("request_id", ""),
            **target,
        )
        return _gone_to(f"/alerts/{page.segment(alert_id)}")

    def _promote(self, request: Request, form: Form) -> Response:
        name = request.path_params["name"]
        version = _version(form.get("version", ""))
        expected = _version(form["expected"]) if form.get("expected") else None
        self.behind.actions.promote(request.state.visitor.credential, f"{name}@{version}", expected)
        return _gone_to(f"/baselines/{page.segment(name)}?done=promoted")

    def _go_back(self, request: Request, form: Form) -> Response:
        name = request.path_params["name"]
        expected = _version(form["expected"]) if form.get("expected") else None
        self.behind.actions.go_back(request.state.visitor.credential, name, expected)
        return _gone_to(f"/baselines/{page.segment(name)}?done=back")


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) <= _MAX_VERSION):
        raise InputError(f"{text[:80]!r} is no version; send the form from the baseline's page")
    return int(text)


def _gone_to(path: str) -> Response:
    """Have the browser read a page; to reload it sends nothing again."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)
