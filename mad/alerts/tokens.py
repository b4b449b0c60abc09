"""Where a listing goes on: a number and what was asked for, as text that callers hand back."""

import base64

from mad.errors import InputError


def write_token(number: int, asked: str) -> str:
    """Return the token of a listing of what was asked for that goes on after a number."""
    return base64.urlsafe_b64encode(f"{number} {asked}".encode()).decode()


def read_token(token: str, asked: str, *, name: str = "page token") -> int:
    """Return the number a listing goes on after; InputError for a token that is not of it."""
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
        digits, before = text.split(" ", maxsplit=1)
        number = int(digits)
    except ValueError as error:
        raise InputError(
            f"{name} {token!r} was not given out by this service; leave it empty"
        ) from error
    if before != asked or not 0 <= number < 2**63:
        raise InputError(
            f"{name} {token!r} belongs to another listing; leave it empty to start this one"
        )
    return number
