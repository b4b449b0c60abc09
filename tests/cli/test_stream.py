"""``mad stream``: evidence and alarms of a running server, and a new beginning."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mad.client import Client
from tests.cli.conftest import Mad
from tests.service.running import anomalies, running
from tests.worlds import tiny_world


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path) as address:
        yield address


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve from another thread, for a command blocks its own."""
    found: list[str] = []
    begun, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running(tiny_world(), directory) as service:
            found.append(service.address)
            begun.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(timeout=60)
        yield found[0]
    finally:
        over.set()
        thread.join()


def test_it_shows_alarms_and_begins_anew(mad: Mad, address: str) -> None:
    quiet = mad("stream", "--address", address)
    assert quiet.code == 0
    assert "Live: 0 inputs since" in quiet.out
    assert "tiny@1" in quiet.out
    assert quiet.out.count("none") == 2
    with Client(address) as client:
        for seed in range(3):
            client.score(anomalies(40, seed=seed))
    loud = mad("stream", "--address", address)
    assert "Live: 120 inputs" in loud.out
    assert loud.out.count("at input") == 2
    assert "Ended: 120 inputs" in mad("stream", "--address", address, "--reset").out
    assert "Live: 0 inputs" in mad("stream", "--address", address).out


def test_no_server_is_one_sentence(mad: Mad) -> None:
    ended = mad("stream", "--address", "127.0.0.1:1")
    assert ended.code == 2
    assert "no server answers at 127.0.0.1:1" in ended.err
