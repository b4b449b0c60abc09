"""``mad canary``: what is planted and found through a real server, and how it exits."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mad.client import Client
from tests.cli.conftest import Mad
from tests.cli.test_stream import served
from tests.worlds import ordinary, strange


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def heeded() -> Iterator[None]:
    """Have programs heed Ctrl-C, which those started from tests in the background do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Write a hundred planted anomalies."""
    np.savez(path := tmp_path / "planted.npz", x=strange(100, seed=1).numpy())
    return path


def test_what_is_found_is_told_with_an_interval_and_remembered(
    mad: Mad, address: str, planted: Path, tmp_path: Path
) -> None:
    with Client(address) as client:
        before = client.calibration(traffic="canary")
    np.savez(trusted := tmp_path / "trusted.npz", x=ordinary(300, seed=2).numpy())
    ended = mad("canary", planted, "--address", address, "--trusted", trusted, "--at-least", 0.9)
    assert ended.code == 0
    (own,) = (line for line in ended.out.splitlines() if "canary" in line and "0.05" in line)
    # Clopper and Pearson: of 100 in 100, the true share is above 0.005 ** (1 / 100).
    assert all(cell in own for cell in ("100.0%", f"{0.005**0.01:.1%}", "90.0%"))
    with Client(address) as client:
        canaries, known = (client.calibration(traffic=kind) for kind in ("canary", "trusted"))
    assert canaries.inputs - before.inputs == 100
    assert canaries.rates[0].alarms - before.rates[0].alarms == 100
    assert known.inputs == known.recent.inputs == 300
    assert f" {known.rates[0].alarms} " in next(
        line for line in ended.out.splitlines() if "trusted" in line and "0.05" in line
    )
    shown = mad("calibration", "--address", address, "--traffic", "trusted")
    assert "the last 300 inputs" in shown.out
    assert "wealth against calibration" in shown.out


def test_too_few_found_is_an_exit_status_and_a_remedy(
    mad: Mad, address: str, tmp_path: Path
) -> None:
    np.savez(blunt := tmp_path / "blunt.npz", x=ordinary(100, seed=3).numpy())
    ended = mad("canary", blunt, "--address", address, "--at-least", "0.9")
    assert ended.code == 1
    assert "fewer than the 90.0% wanted" in ended.err
    assert mad("canary", blunt, "--address", address).code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("heeded")
def test_a_schedule_goes_on_until_it_is_interrupted(address: str, planted: Path) -> None:
    command = [sys.executable, "-m", "mad.cli.main", "canary", str(planted)]
    with subprocess.Popen(
        [*command, "--address", address, "--every", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    ) as running:
        assert running.stdout is not None
        rounds = 0
        for line in running.stdout:
            rounds += line.startswith("Found by")
            if rounds == 3:
                break
        running.send_signal(signal.SIGINT)
        running.stdout.read()
    assert rounds == 3
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("arrays", "complaint", "code"),
    [
        ({"x": np.zeros((0, 8), np.float32)}, "holds nothing", 2),
        ({"y": np.zeros((3, 8), np.float32)}, "'y'", 1),
        ({"x": np.zeros((3, 5), np.float32)}, "shape", 1),
    ],
    ids=["empty", "another name", "another shape"],
)
def test_inputs_that_cannot_be_sent_are_a_sentence(
    mad: Mad, address: str, tmp_path: Path, arrays: dict[str, np.ndarray], complaint: str, code: int
) -> None:
    save_file(arrays, path := tmp_path / "odd.safetensors")
    ended = mad("canary", path, "--address", address)
    assert ended.code == code
    assert complaint in ended.err
    assert "Traceback" not in ended.err


def test_no_server_and_no_file_are_sentences(mad: Mad, planted: Path, tmp_path: Path) -> None:
    ended = mad("canary", planted, "--address", "127.0.0.1:1")
    assert ended.code == 2
    assert "no server answers" in ended.err
    assert mad("canary", tmp_path / "none.npz", "--address", "127.0.0.1:1").code == 2
