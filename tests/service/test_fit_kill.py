"""Kill -9 of the server while a job runs: the next server goes on to the same baseline."""

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch

from mad.client import Client, fit_config
from mad.deployment import Deployment
from mad.fit import fit
from mad.v1 import baselines_pb2 as pb
from tests.service.deployed import copied
from tests.worlds import Rows, ordinary, quiet

ROOT = Path(__file__).parents[2]
INPUTS = 5_000
LIMITS = """
[fit]
quarantine_rate = 0.0
"""


@contextmanager
def served(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run ``mad serve`` in a process of its own."""
    ports = home / "ports.json"
    ports.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "mad.cli.main",
        "serve",
        "mad.toml",
        "--ports-file",
        str(ports),
    ]
    with subprocess.Popen(
        command, cwd=home, env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(ports.is_file)
            yield process, f"127.0.0.1:{json.loads(ports.read_text())['grpc']}"
        finally:
            process.kill()


def wait_until(claim: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not claim():
        assert time.monotonic() - started < 180
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_interrupted_by_a_kill_ends_in_the_same_candidate(
    fitted: Path, tmp_path: Path
) -> None:
    home = copied(fitted, tmp_path, extra=LIMITS)
    trusted = ordinary(INPUTS, seed=91)
    with served(home) as (process, address), Client(address) as client:
        job = client.fits.send({"x": trusted.numpy()}, fit_config(), chunk_bytes=200_000)
        wait_until(lambda: client.fits.job(job.job_id).done > 0)
        process.kill()
        process.wait()
    at = home / "fits" / job.job_id
    written = json.loads((at / "job.json").read_text())
    assert written["state"] == "running"
    with (at / "lock").open("w") as lock:  # its process ends by itself
        fcntl.flock(lock, fcntl.LOCK_EX)
    with served(home) as (_, address), Client(address) as client:
        ended = client.fits.wait(job.job_id, poll_s=0.1)
    assert (ended.state, ended.revision) == (pb.FIT_JOB_STATE_CANDIDATE, "default@2")
    deployment = Deployment.load(home / "mad.toml")
    found = deployment.store.load("default", 2)
    alone = fit(
        deployment.model,
        deployment.decomposition(),
        Rows(trusted),
        deployment.plan,
        created=datetime.fromisoformat(written["started"]),
        progress=quiet,
    )
    assert found.manifest == replace(alone.manifest, version=2)
    assert torch.equal(found.references, alone.references)
    assert list((home / "baselines" / "default").glob("3")) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_kill_before_the_commit_leaves_nothing(fitted: Path, tmp_path: Path) -> None:
    home = copied(fitted, tmp_path, extra=LIMITS)

    def half() -> Iterator[pb.FitBaselineRequest]:
        yield pb.FitBaselineRequest(config=pb.FitConfig())
        wait_until(lambda: bool(list((home / "fits").glob(".*"))))
        process.kill()
        process.wait()

    with served(home) as (process, address), Client(address) as client:
        with pytest.raises(Exception, match="UNAVAILABLE"):
            client.baseline.FitBaseline(half())
        assert list((home / "fits").glob(".*"))
    with served(home) as (_, address), Client(address) as client:
        assert [path.name for path in (home / "fits").iterdir()] == ["lock"]
        assert list(client.fits.jobs().jobs) == []
