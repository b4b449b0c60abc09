"""The file of principals: names, roles, digests of tokens and names in client certificates.

A token is never in the file, only its SHA-256: tokens are random and long, so that nobody finds one
from its digest.
"""

import hashlib
import hmac
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mad.errors import ConfigError
from mad.service.caller import ROLES, Principal, Role

MAX_TOKEN: Final = 512
"""Characters of a token."""
_PREFIX: Final = "sha256:"

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$")]
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_San = Annotated[str, Field(min_length=1, max_length=512)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@final
class _Entry(_Strict):
    roles: Annotated[list[Role], Field(min_length=1)]
    tokens: list[_Digest] = []
    certificates: list[_San] = []


@final
class _File(_Strict):
    principals: Annotated[dict[_Name, _Entry], Field(min_length=1)]


@final
@dataclass(frozen=True)
class Principals:
    """Everybody who may call, by the digests of their tokens and by names in certificates."""

    tokens: tuple[tuple[bytes, Principal], ...]
    certificates: Mapping[str, Principal]
    digest: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ConfigError: it cannot be read, a key or a role is unknown, a digest is none, or two
                principals share a token or a certificate. Never quotes what stands for a token.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read security.tokens {path}: {error.strerror}") from error
        try:
            text = content.decode()
        except ValueError:
            raise ConfigError(f"{path} is not text") from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Read the content of a file, called ``where`` in errors; raises as ``load`` does."""
        try:
            file = _File.model_validate(tomllib.loads(text))
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
                for one in error.errors(include_url=False, include_input=False)
            )
            # Not from the error, whose text quotes the file.
            raise ConfigError(f"{where}: {wrong}; write it as `mad token` does") from None
        except tomllib.TOMLDecodeError as error:
            place = str(error).rpartition("(")[2].rstrip(")")
            raise ConfigError(
                f"{where} is not TOML {place}; write it as `mad token` does"
            ) from None
        tokens: dict[str, Principal] = {}
        certificates: dict[str, Principal] = {}
        for name, entry in file.principals.items():
            if not (entry.tokens or entry.certificates):
                raise ConfigError(
                    f"{where}: principal {name} has neither tokens nor certificates; give it one "
                    "with `mad token`, or remove it"
                )
            principal = Principal(name, _granted(entry.roles))
            _add(tokens, entry.tokens, principal, where)
            _add(certificates, entry.certificates, principal, where)
        pairs = ((bytes.fromhex(key.removeprefix(_PREFIX)), own) for key, own in tokens.items())
        digest = hashlib.sha256(text.encode()).hexdigest()
        return cls(tuple(pairs), certificates, digest)

    def of_token(self, digest: bytes) -> Principal | None:
        """Return whose token has this SHA-256; None if nobody's. Takes as long either way."""
        found = None
        for one, principal in self.tokens:
            if hmac.compare_digest(one, digest):
                found = principal
        return found

    def of_certificate(self, names: Iterable[str]) -> Principal | None:
        """Return whose certificate bears these names; None if nobody's, or several people's."""
        found = {self.certificates[name] for name in names if name in self.certificates}
        return found.pop() if len(found) == 1 else None


def digest_of(token: str) -> bytes:
    """Return the SHA-256 of a token."""
    return hashlib.sha256(token.encode()).digest()


def new_token() -> str:
    """Return a random token of 256 bits."""
    return f"mad_{secrets.token_urlsafe(32)}"


def entry(name: str, roles: Iterable[str], token: str) -> str:
    """Return the table of a principal with one token, as it stands in a file."""
    listed = ", ".join(f'"{role}"' for role in roles)
    digest = f"{_PREFIX}{digest_of(token).hex()}"
    return f'[principals."{name}"]\nroles = [{listed}]\ntokens = ["{digest}"]\n'


def _granted(roles: Iterable[Role]) -> frozenset[Role]:
    given = frozenset(roles)
    return ROLES if "admin" in given else given


def _add(
    index: dict[str, Principal], keys: Iterable[str], principal: Principal, where: str
) -> None:
    for key in keys:
        if key in index:
            raise ConfigError(
                f"{where}: principals {index[key].name} and {principal.name} share a token or a "
                "certificate, or one has it twice; give each its own"
            )
        index[key] = principal
