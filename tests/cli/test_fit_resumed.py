"""``mad fit`` after a kill, and what it says where there is no terminal."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mad.baseline.store import BaselineStore
from mad.cli.screen import Lines
from mad.deployment import Deployment
from mad.fit import fit
from tests.cli.conftest import Mad
from tests.worlds import CREATED


class KilledError(Exception):
    """Stands for a kill: nothing of ours catches it."""


def dies_weighing(stage: str, *, done: int, total: int, note: str = "") -> None:
    """End the fit when parts are being weighed."""
    assert note == ""
    if stage == "weighing parts" and 0 < done <= total:
        raise KilledError


@pytest.fixture
def killed(tmp_path: Path, fitted: Path) -> Path:
    """Return the settings of a deployment of which a second fit was killed."""
    folder = shutil.copytree(fitted.parent, tmp_path / "copy")
    deployment = Deployment.load(folder / "mad.toml")
    with pytest.raises(KilledError):
        fit(
            deployment.model,
            deployment.decomposition(),
            deployment.trusted(),
            deployment.plan,
            created=CREATED,
            progress=dies_weighing,
            unfinished=replace(deployment.unfinished, every_s=0.0, clock=lambda: 0.0),
        )
    return folder / "mad.toml"


def test_a_killed_fit_goes_on_and_leaves_nothing_behind(killed: Path, mad: Mad) -> None:
    assert (killed.parent / "baselines" / ".default.unfinished").is_dir()
    done = mad("fit", killed)
    assert done.code == 0
    assert "fitting codes: 360 of 360, resuming at row 360 of 360" in done.err
    assert "weighing parts: 90 of 90, resuming at row 90 of 90" in done.err
    left = sorted(path.name for path in (killed.parent / "baselines").iterdir())
    assert left == [".default.lock", "default"]
    first, second = (
        BaselineStore(killed.parent / "baselines").load("default", version) for version in (1, 2)
    )
    assert (first.references == second.references).all()


def test_restart_forgets_the_killed_fit(killed: Path, mad: Mad) -> None:
    done = mad("fit", killed, "--restart")
    assert done.code == 0
    assert "resuming" not in done.err
    assert "fitting codes: 0 of 360\n" in done.err
    assert not (killed.parent / "baselines" / ".default.unfinished").exists()


def test_changed_settings_start_over_and_say_so(killed: Path, mad: Mad) -> None:
    killed.write_text(killed.read_text().replace("[baseline]", "[baseline]\nneighbours = 50"))
    done = mad("fit", killed)
    assert done.code == 0
    assert "0 of 360, starting over: the unfinished fit was of other settings" in done.err


def test_a_killed_fit_is_no_baseline(killed: Path) -> None:
    store = BaselineStore(killed.parent / "baselines")
    assert [(one.manifest.name, one.manifest.version) for one in store.entries()] == [
        ("default", 1)
    ]


def test_lines_tell_the_start_the_end_and_something_every_half_minute() -> None:
    """The clock is read once a report; ten rows take fifteen seconds."""
    said: list[str] = []
    readings = iter([100.0, 115.0, 130.0, 145.0, 160.0, 160.0, 175.0])
    lines = Lines(said.append, lambda: next(readings))
    for done in (0, 10, 20, 30, 40):
        lines("fitting codes", done=done, total=40)
    lines("calibrating", done=5, total=25, note="resuming at row 5 of 25")
    lines("calibrating", done=25, total=25, note="resuming at row 5 of 25")
    assert said == [
        "fitting codes: 0 of 40",
        "fitting codes: 20 of 40, 0.7 a second, 0:00:30 left",
        "fitting codes: 40 of 40, 0.7 a second, 0:00:00 left",
        "calibrating: 5 of 25, resuming at row 5 of 25",
        "calibrating: 25 of 25, 1.3 a second, 0:00:00 left, resuming at row 5 of 25",
    ]
