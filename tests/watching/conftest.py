"""A real `mad serve` over a small deployment, with a real Prometheus and Alertmanager beside it."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mad.client import Client, request, traffic_options
from mad.demo.folder import RunFolder
from mad.demo.server import ServerProcess, serving
from mad.demo.watch.beside import Beside, beside
from mad.demo.watch.programs import find_programs
from mad.demo.watch.receiver import Inbox, receiving
from tests.service.deployed import copied, fitted_deployment
from tests.worlds import ordinary, strange


@dataclass(frozen=True)
class Watched:
    """What a test talks to."""

    server: ServerProcess
    client: Client
    beside: Beside
    inbox: Inbox

    def send(self, kind: str, *, traffic: str, count: int, seed: int) -> None:
        """Have so many inputs scored, in requests of fifty."""
        inputs = (ordinary if kind == "ordinary" else strange)(count, seed=seed)
        for part in inputs.split(50):
            message = request({"x": part.numpy()}, options=traffic_options(traffic))
            self.client.score(message)

    def until(self, expression: str) -> None:
        """Wait until Prometheus finds something; a minute at most."""
        wait_for(lambda: bool(self.beside.query(expression)))


def wait_for(claim: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Look twice a second whether a claim holds yet."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit a small deployment once; never written to."""
    return fitted_deployment(tmp_path_factory.mktemp("watched"))


Watching = Callable[[], AbstractContextManager[Watched]]


@pytest.fixture
def watching(deployment: Path, tmp_path: Path) -> Watching:
    """Serve a copy of it, and watch it by a scrape a second."""

    @contextmanager
    def start() -> Iterator[Watched]:
        folder = RunFolder(copied(deployment, tmp_path))
        with (
            receiving(lambda _: None) as inbox,
            serving(folder) as server,
            Client(server.target) as client,
            beside(
                tmp_path / "beside",
                find_programs(),
                scraped=f"127.0.0.1:{server.http_port}",
                webhook=inbox.url,
                scrape_s=1,
            ) as tools,
        ):
            yield Watched(server, client, tools, inbox)

    return start
