"""``mad jobs`` and ``mad calibration``: fits of a running server, and its promise."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mad.client import Client
from tests.cli.conftest import Mad
from tests.service.deployed import fitted_deployment, serving
from tests.service.running import live
from tests.worlds import ordinary


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve from another thread, for a command blocks its own."""
    found: list[str] = []
    begun, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(fitted_deployment(tmp_path)) as service:
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


@pytest.mark.slow
def test_jobs_are_sent_listed_and_cancelled(mad: Mad, address: str, tmp_path: Path) -> None:
    few = tmp_path / "few.npz"
    np.savez(few, x=ordinary(30, seed=8).numpy(), label=np.arange(30))
    refused = mad("jobs", few, "--address", address)
    assert (refused.code, "['label', 'x']" in refused.err) == (1, True)
    failed = mad("jobs", few, "--address", address, "--array", "x", "--wait", "--source", "me")
    assert failed.code == 1
    assert "give at least 134 trusted inputs" in failed.err
    listed = mad("jobs", "--address", address)
    assert (listed.code, listed.out.count("failed")) == (0, 1)
    with Client(address) as client:
        job_id = client.fits.jobs().jobs[0].job_id
        client.score(live(64))
    assert "failed" in mad("jobs", "--address", address, "--cancel", job_id).out
    shown = mad("calibration", "--address", address, "--top", 2)
    assert shown.code == 0
    assert "64 inputs of live traffic since" in shown.out
    assert "against a promised 5 %" in shown.out
    assert "name live, trusted, canary" in mad("calibration", "--traffic", "odd").err
