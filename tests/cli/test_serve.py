"""``mad serve`` and ``mad alerts``: the real server in its own process, stopped by signals."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from mad.client import Client, request
from tests.cli.conftest import Mad
from tests.worlds import strange

SERVE = [sys.executable, "-m", "mad.cli.main", "serve"]
FREE = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Served:
    """A server that has said where it is."""

    config: Path
    child: subprocess.Popen[str]
    grpc_port: int
    http_port: int

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.grpc_port}"

    def get(self, path: str) -> str:
        """Fetch one page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as answer:
            return str(answer.read().decode())

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal; return the exit status and what was printed."""
        self.child.send_signal(number)
        out, err = self.child.communicate(timeout=30)
        return self.child.returncode, out, err


@contextmanager
def serving(config: Path, *, ports: Path | None = None) -> Iterator[Served]:
    """Start ``mad serve`` on free ports and wait until it says which, in a file of its own."""
    ports = ports or config.with_name("ports.json")
    child = subprocess.Popen(
        [*SERVE, str(config), "--ports-file", str(ports), *FREE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ports.is_file() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ports.is_file(), child.communicate()[1]
        taken = json.loads(ports.read_text())
        yield Served(config, child, taken["grpc"], taken["http"])
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def deployed(tmp_path: Path, fitted: Path) -> Path:
    """Return the settings file of a copy that the test may change."""
    return shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"


def test_a_server_scores_alerts_and_drains(deployed: Path, mad: Mad) -> None:
    with serving(deployed) as served:
        with Client(served.address) as client:
            answer = client.score({"x": strange(2, seed=4)})
        assert [score.verdict.is_alert for score in answer.scores] == [True, True]
        assert served.get("/readyz") == "ready\n"
        assert "mad_alerts_total" in served.get("/metrics")
        listed = mad("alerts", "--address", served.address)
        status, out, err = served.end(signal.SIGTERM)
    assert status == 0
    assert out.splitlines() == [
        f"gRPC on {served.address}",
        f"HTTP on http://127.0.0.1:{served.http_port}",
    ]
    lines = [json.loads(line) for line in err.splitlines()]
    own = [line["event"] for line in lines if line["logger"] == "mad.cli.serve"]
    assert own == ["serving", "draining", "stopped"]
    from_log = mad("alerts", "--config", deployed)
    for done in (listed, from_log):
        assert done.code == 0
        assert done.out.count("default@1") == 2
        assert done.out.count(answer.request_id) == 2
    assert rows(listed.out) == rows(from_log.out)


def rows(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("│")]


@pytest.mark.slow
def test_ctrl_c_drains_too(deployed: Path) -> None:
    with serving(deployed) as served:
        status, _, err = served.end(signal.SIGINT)
    assert status == 0
    assert "Traceback" not in err


@pytest.mark.parametrize("taken", ["--grpc-address", "--http-address"])
def test_a_taken_port_ends_in_one_sentence(deployed: Path, taken: str) -> None:
    free = "--http-address" if taken == "--grpc-address" else "--grpc-address"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [*SERVE, str(deployed), taken, address, free, "127.0.0.1:0"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert address in run.stderr
    assert "Traceback" not in run.stderr


def test_a_ports_file_that_cannot_be_written_ends_in_one_sentence(deployed: Path) -> None:
    command = [*SERVE, str(deployed), *FREE, "--ports-file", "/nowhere/ports.json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert "cannot write /nowhere/ports.json: No such file or directory" in run.stderr
    assert "Traceback" not in run.stderr


def test_serving_what_was_never_fitted_is_refused(mad: Mad, deployed: Path) -> None:
    shutil.rmtree(deployed.parent / "baselines")
    done = mad("serve", deployed)
    assert done.code == 1
    assert "no active baseline 'default'" in done.err


def test_serving_without_dictionaries_says_what_to_run(mad: Mad, deployed: Path) -> None:
    shutil.rmtree(deployed.parent / "dictionaries")
    done = mad("serve", deployed, *FREE)
    assert done.code == 2
    assert f"there are no dictionaries in {deployed.parent / 'dictionaries'}; run" in done.err


@pytest.mark.slow
def test_a_damaged_old_version_does_not_keep_the_active_one_from_serving(
    mad: Mad, deployed: Path
) -> None:
    mad("fit", deployed)
    (deployed.parent / "baselines" / "default" / "1" / "manifest.json").write_text("{")
    with serving(deployed) as served:
        assert 'revision="default@2"' in served.get("/metrics")


def test_the_page_names_the_model_as_metrics_and_alerts_do(deployed: Path) -> None:
    deployed.write_text(deployed.read_text().replace('name = "tiny"', 'name = "renamed"'))
    with serving(deployed) as served:
        assert 'mad_queue_depth{model="tiny"}' in served.get("/metrics")
        assert "<title>Overview · tiny" in served.get("/")


def test_an_address_that_is_none_is_refused(mad: Mad, deployed: Path) -> None:
    done = mad("serve", deployed, "--grpc-address", "8001")
    assert done.code == 2
    assert "'8001' is no address" in done.err


def test_alerts_of_a_server_that_is_not_there_are_refused(mad: Mad) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = f"127.0.0.1:{taken.getsockname()[1]}"
    done = mad("alerts", "--address", free)
    assert done.code == 2
    assert f"no server answers at {free}" in done.err


def test_alerts_of_a_log_that_is_not_there_are_refused(mad: Mad, deployed: Path) -> None:
    done = mad("alerts", "--config", deployed)
    assert done.code == 2
    assert "there is no alert log" in done.err
    assert not deployed.with_name("alerts.db").exists()


def test_every_line_of_a_request_carries_its_id_and_none_its_input(deployed: Path) -> None:
    deployed.with_name("model.py").write_text(
        "from tests.worlds import tiny_module\n\n\n"
        "def die(module, inputs):\n"
        "    if (inputs[0] == 666).any():\n"
        "        raise RuntimeError('no such number')\n\n\n"
        "def build():\n"
        "    built = tiny_module()\n"
        "    built.register_forward_pre_hook(die)\n"
        "    return built\n"
    )
    poison = request({"x": np.full((1, 8), 666, np.float32)}, request_id="doomed")
    with serving(deployed) as served:
        with Client(served.address) as client, pytest.raises(grpc.RpcError):
            client.score(poison)
        _, _, err = served.end(signal.SIGTERM)
    lines = [json.loads(line) for line in err.splitlines()]
    (failed,) = [line for line in lines if line["level"] == "ERROR"]
    assert failed["request_id"] == "doomed"
    assert failed["event"].startswith("call failed")
    assert "RuntimeError: no such number" in failed["traceback"]
    assert "666" not in err
