"""The real server and its page, in a thread, for tests and browsers that look at both."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from prometheus_client import CollectorRegistry
from torch import Tensor

from mad.alerts.values import Recorded, Wanted
from mad.cli.watching import behind_of
from mad.client import Client, request
from mad.rendering.trusted import TrustedInputs
from mad.service.auth.guard import Access
from mad.service.auth.principals import entry
from mad.service.promotion.promoting import PromotionPlan
from mad.service.server import Server
from mad.web.application import application
from mad.web.server import HttpServer
from tests.service.running import LIMITS, build
from tests.worlds import World, ordinary, strange

ROLES = {
    "ada": ["alerts.read", "alerts.ack", "score.read"],
    "bob": ["alerts.read", "promote"],
    "eve": ["alerts.read"],
    "zoe": ["infer"],
}


@dataclass(frozen=True)
class Watched:
    """A server that serves, and the address of its page."""

    server: Server
    directory: Path
    grpc: str
    url: str

    def score(self, inputs: Tensor, request_id: str = "", *, token: str = "") -> None:
        """Score inputs as live traffic; alerts are in the log when this returns."""
        with Client(self.grpc, token=token) as client:
            client.score(request({"x": inputs}, request_id=request_id))

    def alerts(self) -> Sequence[Recorded]:
        """Return what stands in the log, newest first."""
        return self.server.alert_log.listing(Wanted(), 100, "")[0]

    def audited(self, event: str) -> list[Mapping[str, object]]:
        """Return the records of one kind of event."""
        lines = (self.directory / "audit.jsonl").read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["event"] == event]


def token_of(name: str) -> str:
    """Return the token of a principal."""
    return f"token-of-{name}"


def write_principals(directory: Path, names: Sequence[str]) -> Path:
    """Write who may call; whole, as the server looks at the file now and then."""
    aside, file = directory / "aside.toml", directory / "tokens.toml"
    aside.write_text("\n".join(entry(name, ROLES[name], token_of(name)) for name in names))
    return aside.replace(file)


@contextmanager
def watched(
    world: World,
    directory: Path,
    *,
    asks: bool = True,
    is_open: bool = False,
    trusted: TrustedInputs | None = None,
) -> Iterator[Watched]:
    """Serve the tiny world with a second version of its baseline, which is not active."""
    access = Access(poll_s=0.05)
    if asks:
        access = replace(access, principals=write_principals(directory, list(ROLES)))
    collectors = CollectorRegistry()
    server = build(
        world,
        directory,
        collectors=collectors,
        limits=LIMITS,
        access=access,
        promotion=PromotionPlan(poll_s=0.05),
    )
    server.store.save(world.baseline, activate=False)
    server.metrics.baseline_loaded(server.store.load("tiny").manifest, digest="c0ffee")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        behind = behind_of(server, is_serving=lambda: True, is_open=is_open, trusted=trusted)
        http = HttpServer(application(collectors, behind, period_s=0.2), host="127.0.0.1", port=0)
        url = f"http://127.0.0.1:{http.start()}"
        yield Watched(server, directory, f"127.0.0.1:{port}", url)
        asyncio.run_coroutine_threadsafe(server.drain(lame_duck_s=0, grace_s=1), loop).result()
        http.stop()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def browsing(watched: Watched) -> Iterator[httpx.Client]:
    """Return a client that keeps cookies and accepts pages, as a browser does."""
    headers = {"accept": "text/html", "origin": watched.url}
    with httpx.Client(base_url=watched.url, headers=headers, trust_env=False) as client:
        yield client


def anomaly(count: int = 1) -> Tensor:
    """Return inputs that raise alerts."""
    return strange(count, seed=6)


def usual(count: int = 1) -> Tensor:
    """Return inputs like the trusted ones."""
    return ordinary(count, seed=5)
