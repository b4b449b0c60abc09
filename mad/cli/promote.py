"""``mad promote`` and ``mad rollback``: change what is active, by a server or in the store."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from mad.cli import screen
from mad.cli.alerts import explained
from mad.cli.remote import At, connect
from mad.config import Address
from mad.errors import BaselineNotFoundError, ConflictError

if TYPE_CHECKING:
    from mad.baseline.pointer import Alias, Pointer
    from mad.baseline.store import BaselineStore
    from mad.client import Client
    from mad.client.versions import GateAnswer
    from mad.deployment import Deployment
    from mad.promotion import Gate

COLUMNS: Final = ("gate", "passed", "value", "bound", "why")

Offline: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", help="Work on the store of this settings file, without a server."),
]
Expect: TypeAlias = Annotated[
    str, typer.Option(help="Refuse unless this is what the alias points at now, or none.")
]
Row: TypeAlias = tuple[str, bool, float, float, str]


def promote(
    revision: Annotated[str, typer.Argument(help="name@version.", show_default=False)],
    address: At = "127.0.0.1:8001",
    config: Offline = None,
    expect: Expect = "",
    *,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Let it score and count beside the active one.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Say what the gates say, and change nothing.")
    ] = False,
) -> None:
    """Make a version active, if it passes every gate."""
    alias: Alias = "shadow" if shadow else "active"
    if config is not None:
        _promote_in_store(config, revision, alias, expect, check=check)
        return
    with _asking(address) as client:
        if check:
            found = client.versions.evaluate(revision)
            _show(revision, _rows(found.gates))
            raise typer.Exit(0 if found.is_promotable else 1)
        moved = client.versions.promote(revision, alias=alias, expected=expect)
    _show(revision, _rows(moved.gates))
    before = moved.previous_revision or "none"
    screen.say(f"{revision} is {alias} at {address}; before it was {before}")


def rollback(
    name: Annotated[str, typer.Argument(help="Name; left out, the server's own.")] = "",
    address: At = "127.0.0.1:8001",
    config: Offline = None,
    expect: Expect = "",
) -> None:
    """Make the version active that was so before."""
    if config is not None:
        now, before = _rolled_back_in_store(config, name, expect)
    else:
        with _asking(address) as client:
            moved = client.versions.roll_back(name, expected=expect)
        now, before = f"{moved.baseline.name}@{moved.baseline.version}", moved.previous_revision
    screen.say(f"{now} is active again, instead of {before}")


@contextmanager
def _asking(address: str) -> Iterator["Client"]:
    import grpc

    server = Address.parse(address)
    try:
        with connect(server) as client:
            yield client
    except grpc.RpcError as error:
        raise explained(error, server) from error


def _promote_in_store(
    config: Path, revision: str, alias: "Alias", expect: str, *, check: bool
) -> None:
    from mad.baseline.store import parse_revision
    from mad.deployment import Deployment
    from mad.promotion import refuse

    name, version = parse_revision(revision)
    if version is None:
        raise BaselineNotFoundError(f"{revision!r} names no version; write name@version")
    deployment = Deployment.load(config)
    store = deployment.store
    before = _expected(store, name, alias, expect)
    gates = _examined(deployment, name, version)
    rows = [(one.name, one.is_passed, one.value, one.bound, one.sentence) for one in gates]
    _show(revision, rows)
    if check:
        raise typer.Exit(0 if all(gate.is_passed for gate in gates) else 1)
    refuse(revision, gates)
    if before.version != version:
        store.move(name, alias, before, before.moved_to(version))
    screen.say(f"{revision} is {alias}; servers follow within promotion.poll_seconds")


def _rolled_back_in_store(config: Path, name: str, expect: str) -> tuple[str, str]:
    from mad.baseline.store import BaselineStore
    from mad.config import Settings

    wanted = Settings.load(config).baseline
    store, name = BaselineStore(wanted.store), name or wanted.name
    before = _expected(store, name, "active", expect)
    after = store.behind(name, before)
    assert after.version is not None
    store.load(name, after.version)
    store.move(name, "active", before, after)
    return f"{name}@{after.version}", f"{name}@{before.version}"


def _expected(store: "BaselineStore", name: str, alias: "Alias", expect: str) -> "Pointer":
    """Read an alias; ConflictError if it is not at what is expected."""
    before = store.pointer(name, alias)
    found = "none" if before.version is None else f"{name}@{before.version}"
    if expect not in ("", found):
        raise ConflictError(f"the {alias} version of {name!r} is {found}, not {expect}")
    return before


def _examined(deployment: "Deployment", name: str, version: int) -> "Sequence[Gate]":
    from mad.promotion import judged, slices

    store = deployment.store
    candidate = deployment.monitor(f"{name}@{version}")
    at = store.pointer(name, "active").version
    active = None if at is None else deployment.monitor(f"{name}@{at}")
    looks = list(slices(deployment.exam(), candidate, active))
    with screen.progress() as progress:
        seen = []
        for look in looks:
            seen.append(look())
            progress("examining", done=len(seen), total=len(looks))
    return judged(
        candidate.baseline,
        active.baseline if active else None,
        store.entry(name, version).provenance,
        seen,
        deployment.bounds,
    )


def _rows(gates: "Iterable[GateAnswer]") -> list[Row]:
    return [(one.name, one.is_passed, one.value, one.bound, one.detail) for one in gates]


def _show(revision: str, gates: Sequence[Row]) -> None:
    rows = [
        (name, "yes" if is_passed else "NO", f"{value:.4g}", f"{bound:.4g}", why)
        for name, is_passed, value, bound, why in gates
    ]
    screen.table(f"Gates of {revision}", COLUMNS, rows)
