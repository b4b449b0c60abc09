"""Published figures: a run that was stopped goes on, and its figures make a table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mad.bench import decomposition
from mad.bench.decomposition import page, run
from mad.bench.decomposition_settings import SETTINGS, Setting, tms
from mad.bench.truth.tms import TmsTask


def short(steps: int) -> Setting:
    setting = tms(TmsTask(2, 2, 64, identity=True, steps=300), 4)
    return replace(setting, plan=replace(setting.plan, steps=steps, batch_size=64))


def test_a_run_that_was_stopped_goes_on_to_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decomposition, "KEPT_EVERY", 3)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert list(run("tiny", short(6), 0, whole)) == [3, 6]
    stopped = run("tiny", short(6), 0, parts)
    assert next(stopped) == 3
    stopped.close()
    assert list(run("tiny", short(6), 0, parts)) == [6]
    first, second = (json.loads(one.with_suffix(".json").read_text()) for one in (whole, parts))
    for untimed in ("cpu_seconds", "step_ms"):
        first.pop(untimed)
        assert second.pop(untimed) is not None or untimed == "step_ms"
    assert first == second
    assert set(first["layers"]) == {"linear1", "hidden", "linear2"}


def test_a_table_has_a_row_a_run() -> None:
    layer = {"alive": 5, "active": 1.0, "largest": 1.0, "identity_error": 0}
    figures = {
        "model": "tms_5_2",
        "seed": 0,
        "steps": 10,
        "mmcs": 1.0,
        "ml2r": 0.9968,
        "layers": {"linear1": layer},
        "cpu_seconds": 101.2,
        "step_ms": None,
    }
    assert page([figures]).splitlines()[-1] == (
        "| tms_5_2 | 0 | 10 | 1.0000 | 0.9968 | linear1 5 / 1.00 / 0 | 101 |  |"
    )


def test_the_published_models_are_there() -> None:
    assert {"tms_5_2", "tms_40_10", "tms_5_2_id", "tms_40_10_id"} < set(SETTINGS)
    assert [one.width for one in SETTINGS["resid_mlp_1"].plan.layers] == [100, 100]
