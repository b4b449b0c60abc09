"""A server whose state is elsewhere, as in the image and the unit, writes nothing else."""

import shutil
import signal
from pathlib import Path

import pytest

from mad.client import Client
from tests.cli.test_serve import serving
from tests.deploy.test_images import STATE, of_image, of_unit
from tests.worlds import strange


def written(folder: Path) -> dict[str, float]:
    """Return when each file of a folder was changed."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
@pytest.mark.parametrize("given", [of_image(), of_unit()], ids=["image", "unit"])
def test_state_is_in_its_own_directory_and_the_settings_folder_stays_as_it_was(
    tmp_path: Path, fitted: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(fitted.parent, tmp_path / "etc")
    state = tmp_path / "state"
    state.mkdir()
    shutil.move(home / "baselines", state / "baselines")
    for name, value in given.items():
        monkeypatch.setenv(name, value.replace(STATE, str(state)))
    monkeypatch.setenv("MAD_BASELINE__STORE", str(state / "baselines"))
    ports = tmp_path / "ports"
    ports.mkdir()
    before = written(home)
    with serving(home / "mad.toml", ports=ports / "ports.json") as served:
        with Client(served.address, timeout_s=60) as client:
            answer = client.score({"x": strange(1, seed=3).numpy()})
        assert answer.scores[0].alert_id
        assert served.end(signal.SIGTERM)[0] == 0
    assert written(home) == before
    found = {path.name for path in state.iterdir()}
    assert {"alerts.db", "audit.jsonl", "baselines", "stream.json"} <= found
