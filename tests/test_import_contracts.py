"""Every import contract is seen to fail on a deliberate breach, and only that one."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = ROOT / "pyproject.toml"
LAYERS = "Rooms import only the rooms below them"
CYCLES = "No cycles anywhere"
PROTOBUF = "Only the edge speaks protobuf"
SCIENCE = "The science knows no transport, no dashboard, no command line"
DATABASE = "Only the alert log owns a database"
CLIENT = "A client needs no torch"

# Contract, and what to append to which files to breach it.
BREACHES = [
    (LAYERS, {"metrics/table.py": "import mad.client"}),
    (LAYERS, {"alerts/policy.py": "import mad.capture.hooks"}),
    (LAYERS, {"attic.py": "'''A room that was given no place.'''"}),
    (CYCLES, {"arrays/one.py": "import mad.arrays.two", "arrays/two.py": "import mad.arrays.one"}),
    (PROTOBUF, {"web/page.py": "import mad.v1.verdict_pb2"}),
    (SCIENCE, {"fit.py": "import rich"}),
    (SCIENCE, {"tensors.py": "import prometheus_client"}),
    (DATABASE, {"bench/figures.py": "import sqlite3"}),
    (CLIENT, {"client/messages.py": "import numpy"}),
    (CLIENT, {"errors.py": "import torch"}),
]


def broken_contracts(folder: Path) -> set[str]:
    """Run ``lint-imports`` on the copy in a folder; return the contracts it calls broken."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    kept, broken = (
        set(re.findall(rf"^(.+) {verdict}$", run.stdout, re.MULTILINE))
        for verdict in ("KEPT", "BROKEN")
    )
    assert kept | broken == contracts(), run.stdout + run.stderr
    assert (run.returncode == 0) == (not broken)
    return broken


def contracts() -> set[str]:
    settings = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]
    return {contract["name"] for contract in settings["contracts"]}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package and of its contracts."""
    ignored = shutil.ignore_patterns("__pycache__", "images", "*.safetensors")
    shutil.copytree(ROOT / "mad", tmp_path / "mad", ignore=ignored)
    shutil.copy(PYPROJECT, tmp_path)
    return tmp_path


def test_the_package_keeps_every_contract(copy: Path) -> None:
    assert broken_contracts(copy) == set()


def test_every_contract_has_a_breach() -> None:
    assert {contract for contract, _ in BREACHES} == contracts()


@pytest.mark.parametrize(("contract", "breach"), BREACHES)
def test_a_breach_breaks_its_contract(copy: Path, contract: str, breach: dict[str, str]) -> None:
    for file, line in breach.items():
        with (copy / "mad" / file).open("a") as module:
            module.write(f"\n{line}\n")
    assert broken_contracts(copy) == {contract}
