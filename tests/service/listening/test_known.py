"""What gRPC's core is told before it is imported, and of which versions it is known."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mad.service.listening.known import KNOWN, environment, is_known
from tests.service.deployed import SETTINGS

SERVING = """
import sys
from importlib.abc import MetaPathFinder

class Watching(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "grpc":
            import os
            print(os.environ["GRPC_EXPERIMENTS"])

sys.meta_path.insert(0, Watching())
from mad.cli.main import main
main(["serve", sys.argv[1]])
"""


def told(tmp_path: Path, **set_by_operator: str) -> str:
    """Return what ``mad serve`` has said of experiments when it first imports grpc."""
    (tmp_path / "mad.toml").write_text(SETTINGS)
    own = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    done = subprocess.run(
        [sys.executable, "-c", SERVING, str(tmp_path / "mad.toml")],
        env={**own, **set_by_operator},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout.strip() or done.stderr


def test_a_server_that_is_to_serve_tells_the_core_before_it_is_imported(tmp_path: Path) -> None:
    assert told(tmp_path) == "-event_engine_listener"


@pytest.mark.slow
def test_what_an_operator_has_said_stands(tmp_path: Path) -> None:
    assert told(tmp_path, GRPC_EXPERIMENTS="tcp_rcv_lowat") == "tcp_rcv_lowat"


def test_the_core_knows_what_it_is_told() -> None:
    program = "from grpc._cython import cygrpc; cygrpc.Server((), False)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment()},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert environment()
    assert b"Unknown experiment" not in done.stderr


def test_the_version_that_tests_run_on_is_known() -> None:
    oldest, newest = KNOWN
    major, minor, *_ = version("grpcio").split(".")
    assert oldest <= (int(major), int(minor)) <= newest


@pytest.mark.parametrize(
    ("grpcio", "expected"),
    [("1.70.3", False), ("1.71.2", True), ("1.85.1", True), ("1.86.0rc1", False), ("2.0", False)],
)
def test_only_versions_that_were_tested_are_known(grpcio: str, expected: bool) -> None:
    assert is_known(grpcio) is expected
