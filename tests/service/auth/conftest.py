"""A server that asks who calls, with one principal for each role, named after it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import grpc
import pytest

from mad.service.auth.guard import Access
from mad.service.auth.principals import entry
from mad.service.caller import ROLES
from mad.service.oip.serving import InferencePlan
from tests.service.running import Running, running
from tests.worlds import World

Raw = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
RawStream = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
Metadata = Sequence[tuple[str, str | bytes]]


def unary(channel: grpc.aio.Channel, path: str) -> Raw:
    """Return a call of bytes to a method, such as ``/mad.v1.AlertService/ListAlerts``."""
    stub: Raw = channel.unary_unary(path)
    return stub


def streaming(channel: grpc.aio.Channel, path: str) -> RawStream:
    """Return a call of bytes, of any arity: on the wire all are alike."""
    stub: RawStream = channel.stream_stream(path)
    return stub


def token_of(name: str) -> str:
    """Return the token of a principal."""
    return f"token-of-{name}"


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata a principal sends."""
    return (("authorization", f"Bearer {token_of(name)}"),)


def write_principals(file: Path, roles: Mapping[str, Sequence[str]]) -> Path:
    """Write principals, each with its roles and its token."""
    tables = (entry(name, own, token_of(name)) for name, own in roles.items())
    return replace(file, "\n".join(tables))


def replace(file: Path, content: str) -> Path:
    """Write a file whole, so that who looks at it sees no half of it."""
    aside = file.with_name("aside")
    aside.write_text(content)
    return aside.replace(file)


@pytest.fixture
async def guarded(world: World, tmp_path: Path) -> AsyncIterator[Running]:
    roles = {str(role): [role] for role in sorted(ROLES)}
    file = write_principals(tmp_path / "tokens.toml", roles)
    access, inference = Access(principals=file, poll_s=0.05), InferencePlan(reaction="tell")
    async with running(world, tmp_path, access=access, inference=inference) as service:
        yield service
