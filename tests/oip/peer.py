"""The Python that has tritonclient, MLServer and Envoy, if it was made: ``make oip``."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv/oip"
PYTHON = os.environ.get("MAD_OIP_PYTHON", str(HOME / "bin/python"))

needs_peers = pytest.mark.skipif(
    "MAD_OIP_PYTHON" not in os.environ and not (HOME / "ready").exists(),
    reason="tritonclient, MLServer and Envoy are missing: make oip",
)


def run(module: str, *arguments: str) -> bytes:
    """Run a module of ours by that Python, and return what it writes."""
    command = [PYTHON, "-m", f"tests.oip.peers.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-2_000:].decode()
    return done.stdout
