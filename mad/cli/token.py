"""``mad token``: a new principal with a random token, of which only the digest is kept."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from mad.cli import screen
from mad.errors import ConfigError


def token(
    name: Annotated[str, typer.Argument(help="Who it is for.", show_default=False)],
    role: Annotated[list[str], typer.Option(help="What they may do; once for each role.")],
    file: Annotated[
        Path | None, typer.Option(help="Add the principal to this file, made if it is missing.")
    ] = None,
) -> None:
    """Make a token, print it this once, and write its entry for security.tokens."""
    from mad.service.auth.principals import Principals, entry, new_token

    secret = new_token()
    table = entry(name, role, secret)
    if file is None:
        Principals.parse(table, "the entry")
        screen.say(table)
    else:
        before = _read(file)
        after = f"{before.rstrip()}\n\n{table}" if before.strip() else table
        try:
            Principals.parse(after, str(file))
        except ConfigError as error:
            raise ConfigError(
                f"cannot add {name} to {file}: {error}; to give somebody who is in it another "
                "token, run this without --file and copy the digest"
            ) from error
        _replace(file, after)
    screen.say(f"Token of {name}, shown only now: {secret}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error


def _replace(file: Path, content: str) -> None:
    """Write a file whole: a server that reads it now gets the one before or the one after."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as aside:
            aside.write(content)
        Path(aside.name).replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
