"""A short soak finds at once what a long one would find: failures and files left open."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_soak_fails_no_call_and_leaves_no_file_open(fitted: Path, tmp_path: Path) -> None:
    config = shutil.copytree(fitted.parent, tmp_path / "deployed") / "mad.toml"
    command = [sys.executable, "-m", "mad.bench.soak", "--config", str(config)]
    # In half a minute memory still settles; only the long soak can say how it grows.
    options = ["--seconds", "30", "--warm-seconds", "10", "--growth", "60"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"failed": 0' in done.stdout
