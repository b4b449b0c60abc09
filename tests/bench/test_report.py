"""Figures of hand-made scores, and the files that results are written to."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mad.bench.figures import Figures, Measured, figures
from mad.bench.report import COLUMNS, rows, write
from mad.bench.run import Result
from mad.errors import ConfigError


def measured(**scores: torch.Tensor) -> Figures:
    return figures(Measured(scores, 1.0, 2.0), generator=np.random.default_rng(0))


def numbers(start: float, stop: float) -> torch.Tensor:
    return torch.arange(start, stop, dtype=torch.float64)


ONE = measured(
    reference=numbers(0, 199),
    test_normal=numbers(0, 200),
    test_anomalous=numbers(150, 250),
    benign_shift=numbers(100, 300),
)


def test_alarms_are_counted_at_p_values_of_one_in_a_hundred() -> None:
    # With 199 held out, p <= 0.01 leaves room for one of them at or above: 198 and 199 alarm.
    realised = ONE.estimates["realised_fpr_alpha_01"]
    flagged = ONE.estimates["shift_flag_rate_alpha_01"]
    assert realised is not None
    assert flagged is not None
    assert realised.value == 2 / 200
    assert flagged.value == 102 / 200


def test_the_interval_of_no_alarms_is_exact() -> None:
    quiet = measured(
        reference=numbers(0, 199), test_normal=numbers(0, 100), test_anomalous=numbers(0, 9)
    )
    found = quiet.estimates["realised_fpr_alpha_01"]
    assert found is not None
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_a_task_without_a_shift_has_no_figures_of_one() -> None:
    plain = measured(
        reference=numbers(0, 199), test_normal=numbers(0, 100), test_anomalous=numbers(0, 9)
    )
    assert plain.estimates["auroc_vs_shift"] is None
    assert plain.estimates["shift_flag_rate_alpha_01"] is None


def test_the_table_has_a_cell_for_every_column() -> None:
    (row,) = rows(Result("t", {}, {"mad": ONE}))
    assert len(row) == len(COLUMNS)
    assert row[:2] == ("mad", f"{(50 * 174.5 + 25 + 50 * 200) / 20_000:.4f}")


RESULTS = [Result("first", {"seed": 0}, {"mad": ONE}), Result("second", {"seed": 0}, {})]


def test_a_file_gets_a_list_and_a_directory_one_file_a_task(tmp_path: Path) -> None:
    write(RESULTS, str(tmp_path / "all.json"))
    listed = json.loads((tmp_path / "all.json").read_text())
    assert [one["task"] for one in listed] == ["first", "second"]
    write(RESULTS, f"{tmp_path}/each/")
    each = sorted((tmp_path / "each").iterdir())
    assert [path.name for path in each] == ["first.json", "second.json"]
    assert [json.loads(path.read_text()) for path in each] == listed


def test_a_second_writing_replaces_the_first_and_leaves_nothing_else(tmp_path: Path) -> None:
    write(RESULTS[:1], str(tmp_path / "all.json"))
    write(RESULTS, str(tmp_path / "all.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"]
    assert len(json.loads((tmp_path / "all.json").read_text())) == 2


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write results to .*/nowhere/all\.json: No such"):
        write(RESULTS, str(tmp_path / "nowhere" / "all.json"))
