"""A client of a running server, as the environment says who calls and whom to trust.

Not options, since anybody on the machine reads those: ``MAD_TOKEN`` is the caller's token,
``MAD_CA`` a PEM file of who signed the server's certificate, ``MAD_CERTIFICATE`` and ``MAD_KEY``
the caller's own certificate and its key.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from mad.config import Address
from mad.errors import ConfigError

if TYPE_CHECKING:
    import grpc

    from mad.client import Client

At: TypeAlias = Annotated[
    str,
    typer.Option(
        "--address",
        help="host:port of a running server; the environment has MAD_TOKEN, the caller's token, "
        "and MAD_CA, a PEM file of who signed its certificate.",
    ),
]


def connect(address: Address) -> "Client":
    """Return a client to be closed; ConfigError for files that cannot be read."""
    from mad.client import Client

    token = os.environ.get("MAD_TOKEN", "")
    return Client(str(address), token=token, credentials=_credentials())


def _credentials() -> "grpc.ChannelCredentials | None":
    import grpc

    authority = _content("MAD_CA")
    if authority is None:
        return None
    return grpc.ssl_channel_credentials(authority, _content("MAD_KEY"), _content("MAD_CERTIFICATE"))


def _content(variable: str) -> bytes | None:
    path = os.environ.get(variable, "")
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise ConfigError(f"cannot read {variable}={path}: {error.strerror}") from error
