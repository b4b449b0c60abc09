"""The page and the server it watches, joined: what the page shows, asked of the server."""

from collections.abc import Callable, Mapping, Sequence

from mad.alerts.values import Incident
from mad.baseline.bundle import Baseline
from mad.baseline.store import Entry
from mad.rendering.base import Shown
from mad.rendering.trusted import TrustedInputs
from mad.service.server import Server
from mad.web.behind import Behind, Deed, Entrance, View, Visitor


def behind_of(
    server: Server,
    *,
    is_serving: Callable[[], bool],
    is_open: bool,
    trusted: TrustedInputs | None = None,
) -> Behind:
    """Return all that is behind the page of a server.

    It is ready while it ``is_serving`` too. Where it ``is_open``, nobody needs to sign in to read.
    ``trusted`` shows trusted inputs.
    """
    view = view_of(server, is_serving=is_serving, trusted=trusted)
    return Behind(view, entrance_of(server, is_open=is_open), server.visits)


def entrance_of(server: Server, *, is_open: bool) -> Entrance:
    """Return who may come in, by the server's own principals."""
    everybody: frozenset[Deed] = frozenset({"read"}) if is_open else frozenset()

    def visitor(credential: bytes) -> Visitor:
        principal = server.guard.visiting(credential)
        deeds = server.visits.deeds(principal) | everybody
        if "read" not in deeds:
            server.guard.note_visit(principal)
        return Visitor(principal.name, credential, deeds)

    return Entrance(
        is_asking=lambda: server.guard.is_asking,
        credential=server.guard.credential,
        visitor=visitor,
    )


def view_of(
    server: Server, *, is_serving: Callable[[], bool], trusted: TrustedInputs | None
) -> View:
    """Return what the page shows of a server, ready while it ``is_serving`` too."""

    def incidents(most: int) -> Sequence[Incident]:
        return server.alert_log.incidents("", most, "", include_closed=False)[0]

    def baselines() -> Sequence[Baseline]:
        return [monitor.baseline for monitor in server.registry.monitors]

    def versions(name: str) -> Sequence[Entry]:
        # All are read and then filtered: a name from a request never becomes a path.
        return [entry for entry in server.store.entries() if entry.manifest.name == name]

    return View(
        model=server.registry.default.baseline.manifest.model_name,
        ready=lambda: is_serving() and server.is_ready,
        alerts=server.alert_log.listing,
        alert=server.alert_log.find,
        incidents=incidents,
        baselines=baselines,
        versions=versions,
        trusted=_nothing if trusted is None else trusted.shown,
    )


def _nothing(_name: str, _version: int, _rows: Sequence[int]) -> Mapping[int, Shown]:
    return {}
