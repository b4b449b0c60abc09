"""Programs that check what is in ``deploy/``, if they were installed: ``make tools``."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(os.environ.get("MAD_DEPLOY_BIN", str(ROOT / ".venv/deploy/bin")))

needs_tools = pytest.mark.skipif(
    not (BIN / "kubectl").exists(),
    reason="grafana-foundation-sdk, kubectl and other tools are missing: make tools",
)


def run(program: str, *arguments: object, cwd: Path = ROOT) -> str:
    """Run one of these programs; return what it says, which must be no complaint."""
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return [one for one in yaml.safe_load_all(text) if one]
