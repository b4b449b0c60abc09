"""What reading active sets costs: the exact ones are read, and each part is measured."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mad.bench.decomposition import run
from mad.bench.decomposition_settings import SETTINGS, Setting, tms
from mad.bench.readout_speed import Layers, drawn, measure, show, trained
from mad.bench.truth.tms import TmsTask
from mad.errors import ConfigError


def test_thresholds_read_the_sets_of_the_networks() -> None:
    case = Layers("few", ((6, 4), (4, 6)), 12)
    cost = measure(case.name, *drawn(case), seconds=0.001)
    assert cost.agreement >= 0.998
    assert 0 < cost.active < 0.5
    assert min(cost.layers, cost.thresholds, cost.networks, cost.activity) > 0
    written = io.StringIO()
    show([cost], Console(file=written, width=110))
    assert "few" in written.getvalue()


def short() -> Setting:
    setting = tms(TmsTask(2, 2, 64, steps=300), 4)
    return replace(setting, plan=replace(setting.plan, steps=1, batch_size=64))


def test_what_a_run_kept_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "tiny", short())
    assert list(run("tiny", short(), 0, tmp_path / "tiny-0-1.safetensors")) == [1]
    [(name, model, decomposition, activations)] = trained(tmp_path)
    assert name == "tiny-0-1"
    assert [layer.parts.width for layer in decomposition.layers] == [4, 4]
    cost = measure(name, model, decomposition, activations, seconds=0.001)
    assert cost.agreement == 1.0


def test_a_directory_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no states of trainings"):
        next(trained(tmp_path))
