"""A run folder is the demo's own: it replaces an earlier run and nothing else."""

from pathlib import Path

import pytest

from mad.capture.sites import resolve
from mad.config import Settings
from mad.demo.folder import RunFolder
from mad.demo.model import build
from mad.errors import ConfigError


def test_settings_are_those_an_operator_could_have_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(seed=7)
    settings = Settings.load(folder.settings)
    sites = settings.decomposition.sites
    assert resolve(build(), sites) == sites
    assert settings.baseline.seed == 7
    assert settings.model.weights.parent == folder.root


def test_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(seed=0)
    left_over = folder.root / "alerts.db"
    left_over.touch()
    folder.begin(seed=1)
    assert not left_over.exists()


def test_an_empty_folder_can_become_a_run_folder(tmp_path: Path) -> None:
    RunFolder(tmp_path).begin(seed=0)
    assert RunFolder(tmp_path).settings.is_file()


def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.touch()
    with pytest.raises(ConfigError, match="name a new one with --out"):
        RunFolder(tmp_path).begin(seed=0)
    assert thesis.exists()


def test_a_folder_with_somebodys_own_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mad.toml").write_text("[model]\n")
    with pytest.raises(ConfigError, match="is no run folder of the demo"):
        RunFolder(tmp_path).begin(seed=0)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match="is no run folder of the demo"):
        RunFolder(tmp_path / "run").begin(seed=0)


def test_a_folder_that_cannot_be_made_is_an_operators_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write the run folder"):
        RunFolder(tmp_path / "file" / "run").begin(seed=0)


def test_a_fresh_folder_has_no_baseline_to_serve(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_prepared
    folder.begin(seed=0)
    assert not folder.is_prepared
