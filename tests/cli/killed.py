"""A training that dies: begun by the command line, and killed at its first checkpoint."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def train_until_killed(what: str, config: Path) -> None:
    """Run ``mad train`` until there is a checkpoint beside what it trains, and then kill -9 it."""
    folder = {"dictionary": "dictionaries", "decomposition": "pieces"}[what]
    unfinished = config.parent / folder / ".unfinished" / "checkpoint.json"
    command = [sys.executable, "-m", "mad.cli.main", "train", what, "--config", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL
    ) as process:
        try:
            while not unfinished.exists():
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
