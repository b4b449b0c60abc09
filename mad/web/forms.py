"""What a form sends, and whether it comes from a page of this server that its sender could read."""

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request

from mad.errors import ForbiddenError, InputError
from mad.web.sessions import Sessions

TOKEN: Final = "form_token"  # noqa: S105  # the name of a field
_MAX_BYTES: Final = 32 * 1024
_MAX_FIELDS: Final = 16


async def fields(request: Request) -> Mapping[str, str]:
    """Read the fields of a form; of several of one name the last. InputError for what is none."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BYTES:
            raise InputError(f"the form has more than {_MAX_BYTES} bytes; write less")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise InputError("the form cannot be read; send it from a page of this server") from error


def check_sender(request: Request, form: Mapping[str, str], sessions: Sessions) -> None:
    """Refuse a form that another site had the browser send.

    It has to say that it comes from here, and carry the token that only a page of ours shows. Where
    nobody is asked who they are, a name may be one that a hostile site points at this machine, so
    only addresses and ``localhost`` count as here. Raises ForbiddenError.
    """
    here = request.headers.get("host", "")
    origin = urlsplit(request.headers.get("origin", "")).netloc
    if not origin or origin != here:
        raise ForbiddenError("the form was not sent from a page of this server; open it and retry")
    if not request.state.owner and not _is_address(urlsplit(f"//{here}").hostname or ""):
        raise ForbiddenError(
            f"this server asks nobody who they are, so it takes no forms as {here[:80]}; open the "
            "page by its IP address or as localhost, or give people tokens (security.tokens)"
        )
    expected = sessions.form_token(request.state.owner)
    if not hmac.compare_digest(form.get(TOKEN, "").encode(), expected.encode()):
        raise ForbiddenError("the form is of an earlier session; reload the page and send it again")


def local_path(text: str) -> str:
    """Return a path of this server to go on to; the overview in place of anything else."""
    is_local = text.startswith("/") and text.isprintable() and "\\" not in text
    return text if is_local and not text.startswith("//") else "/"


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
