"""A deployment on disk: a small model, trusted data and a settings file."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from mad.cli.main import main
from tests.worlds import ordinary, strange, tiny_module

SETTINGS = """
[model]
name = "tiny"
factory = "model.py:build"
weights = "model.safetensors"
inputs = ["x"]

[decomposition]
sites = ["1", "3"]
width = 32
k = 4
steps = 60

[data]
trusted = ["trusted.npz"]

[baseline]
false_alarm_rate = 0.05
"""
MODEL = '''"""The operator's own file."""

from tests.worlds import tiny_module


def build():
    return tiny_module()
'''


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Mad = Callable[..., Finished]


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Put the test's logging back when a command has set up its own."""
    root, ours = logging.getLogger(), logging.getLogger("mad")
    before = root.handlers[:], root.level, ours.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def mad(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mad:
    """Run ``mad`` with some arguments."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Finished(int(ending.value.code or 0), printed.out, printed.err)

    return run


def write_deployment(folder: Path, settings: str = SETTINGS) -> Path:
    """Write model, data and settings; return the settings file."""
    (folder / "model.py").write_text(MODEL)
    save_file(tiny_module().state_dict(), folder / "model.safetensors")
    trusted = ordinary(600, seed=1).numpy()
    np.savez(folder / "trusted.npz", x=trusted, label=np.arange(600))
    np.savez(folder / "ordinary.npz", x=ordinary(40, seed=2).numpy())
    np.savez(folder / "strange.npz", x=strange(5, seed=3).numpy())
    (folder / "mad.toml").write_text(settings)
    return folder / "mad.toml"


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the settings file of a deployment whose baseline has been fitted; never written to."""
    config = write_deployment(tmp_path_factory.mktemp("fitted"))
    with pytest.raises(SystemExit, match="0"):
        main(["fit", str(config)])
    return config
