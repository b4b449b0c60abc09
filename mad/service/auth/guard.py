"""The gate before every call: who calls, and may they."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import grpc

from mad.audit import AuditLog
from mad.errors import ForbiddenError, UnauthenticatedError
from mad.metrics import Metrics
from mad.service.auth.certificates import Certificates, TlsFiles
from mad.service.auth.failures import Failures, Reason
from mad.service.auth.methods import METHODS
from mad.service.auth.principals import MAX_TOKEN, Principals, digest_of
from mad.service.auth.reloading import Reloading, Watched
from mad.service.caller import ANYONE, Principal, caller
from mad.service.calls import Call

_NOBODY: Final = Principal("", frozenset())


@final
@dataclass(frozen=True, kw_only=True)
class Access:
    """What a server asks of its callers: nothing, unless there is a file of principals.

    With ``tls`` it listens with a certificate. Files are looked at every ``poll_s`` seconds. Who
    has the role score.coarse reads bits in steps of ``coarse_bits``.
    """

    principals: Path | None = None
    tls: TlsFiles | None = None
    poll_s: float = 1.0
    coarse_bits: float = 4.0


@final
@dataclass(frozen=True)
class _Known:
    """One state of the file, and the tokens of it that have been seen, by their digests.

    A digest that was found once is looked up from then on, however many principals there are: what
    a lookup's time tells of a digest tells nothing of a token.
    """

    principals: Principals
    seen: dict[bytes, Principal] = field(default_factory=dict)


class _Refused(Exception):  # noqa: N818  # a word for the callers below, no error of ours
    def __init__(self, reason: Reason, remedy: str) -> None:
        super().__init__(remedy)
        self.reason: Reason = reason


@final
class Guard:
    """Asks every caller who they are, and lets them call what their roles allow."""

    def __init__(self, access: Access, *, audit: AuditLog, metrics: Metrics) -> None:
        watched: dict[str, Watched] = {}
        if access.principals is not None:
            watched["tokens"] = Watched([access.principals], self._read_principals)
        if access.tls is not None:
            watched["certificates"] = Watched(access.tls.paths, self._read_certificates)
        self._access = access
        self._failures = Failures(audit, metrics)
        self._reloading = Reloading(watched, poll_s=access.poll_s, audit=audit, metrics=metrics)
        self._known: _Known | None = None
        if access.principals is not None:
            self._read_principals()
        self._certificates = None if access.tls is None else Certificates(access.tls)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def certificates(self) -> Certificates | None:
        """What to listen with; None where it is in the clear."""
        return self._certificates

    def start(self) -> None:
        """Begin to look at the files, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._reloading.start()

    async def close(self) -> None:
        """Stop looking, and put what was refused on record."""
        await self._reloading.close()
        await self._failures.close()

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Bind an address, and return its port; RuntimeError as gRPC raises it."""
        if self._certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self._certificates.credentials())

    def admit(self, call: Call) -> None:
        """Let a call happen as who makes it, or not at all.

        Raises UnauthenticatedError if they do not say so truly, ForbiddenError if they may not.
        """
        caller.set(self._admitted(call))

    def _admitted(self, call: Call) -> Principal:
        """Return who calls; raises as ``admit``."""
        needed = METHODS.get(call.path)
        known = self._known
        if needed is None:
            self._failures.note("", "no_row", call.method)
            raise ForbiddenError(f"nobody may call {call.method} on this server")
        if known is None:
            return ANYONE
        if not needed:
            return _NOBODY
        try:
            principal = _identified(known, call)
        except _Refused as refused:
            self._failures.note("", refused.reason, call.method)
            raise UnauthenticatedError(str(refused)) from None
        if not principal.roles & needed:
            self._failures.note(principal.name, "role", call.method)
            raise ForbiddenError(
                f"{principal.name} may not call {call.method}; it takes a caller with one of the "
                f"roles {', '.join(sorted(needed | {'admin'}))}"
            )
        return principal

    @property
    def is_asking(self) -> bool:
        """Whether callers are asked who they are."""
        return self._known is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the server; None before it has started."""
        return self._loop

    def credential(self, headers: Sequence[str]) -> bytes:
        """Return what stands for the token in a page's authorization headers: its digest.

        It is empty where nobody is asked. Raises UnauthenticatedError for a token that is nobody's.
        Safe to call from any thread, as ``visiting`` is.
        """
        known = self._known
        if known is None:
            return b""
        try:
            digest = _digest_of_headers(headers)
            _of_digest(known, digest)
        except _Refused as refused:
            self._note_from_elsewhere("", refused.reason)
            raise UnauthenticatedError(str(refused)) from None
        return digest

    def visiting(self, credential: bytes) -> Principal:
        """Return who visits the page; who shows nothing has no roles where anybody is asked.

        Raises UnauthenticatedError for a token that has been taken away since.
        """
        known = self._known
        if known is None:
            return ANYONE
        if not credential:
            return _NOBODY
        try:
            return _of_digest(known, credential)
        except _Refused as refused:
            self._note_from_elsewhere("", refused.reason)
            raise UnauthenticatedError(str(refused)) from None

    def note_visit(self, principal: Principal) -> None:
        """Put on record that a visitor may not do what they tried to."""
        self._note_from_elsewhere(principal.name, "role" if principal.name else "missing")

    def _note_from_elsewhere(self, principal: str, reason: Reason) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: so has the server
                self._loop.call_soon_threadsafe(self._failures.note, principal, reason, "http")

    def _read_principals(self) -> str:
        assert self._access.principals is not None
        self._known = _Known(Principals.load(self._access.principals))
        return self._known.principals.digest

    def _read_certificates(self) -> str:
        assert self._certificates is not None
        return self._certificates.reload()


def _identified(known: _Known, call: Call) -> Principal:
    headers = [str(value) for key, value in call.metadata if key == "authorization"]
    if headers or not known.principals.certificates:
        return _of_headers(known, headers)
    shown = call.context.auth_context()
    names = [*shown.get("peer_uri", ()), *shown.get("peer_dns", ())]
    if not names:
        return _of_headers(known, headers)
    principal = known.principals.of_certificate(name.decode(errors="replace") for name in names)
    if principal is None:
        raise _Refused(
            "certificate",
            "the client certificate is of nobody, or of several, whom this server knows; its URI "
            "or DNS name must stand in security.tokens",
        )
    return principal


def _of_headers(known: _Known, headers: Sequence[str]) -> Principal:
    return _of_digest(known, _digest_of_headers(headers))


def _digest_of_headers(headers: Sequence[str]) -> bytes:
    if not headers:
        raise _Refused("missing", "say who calls: send the metadata authorization: Bearer TOKEN")
    scheme, _, token = headers[0].partition(" ")
    is_token = scheme.lower() == "bearer" and token.isascii() and 0 < len(token) <= MAX_TOKEN
    if len(headers) > 1 or not is_token:
        raise _Refused("malformed", "send one authorization: Bearer TOKEN, a token as it was given")
    return digest_of(token)


def _of_digest(known: _Known, digest: bytes) -> Principal:
    principal = known.seen.get(digest)
    if principal is None:
        principal = known.principals.of_token(digest)
        if principal is None:
            raise _Refused("unknown", "the token is nobody's here; ask for one of this server")
        known.seen[digest] = principal
    return principal
