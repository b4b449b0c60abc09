"""Figures of hand-made scores, and the files that results are written to."""

import json
from pathlib import Path

import pytest
import torch
from scipy.stats import beta

from mad.bench.figures import Figures, Measured, figures
from mad.bench.report import BRIEF, COLUMNS, brief, rows, write
from mad.bench.run import Result
from mad.errors import ConfigError


def measured(**scores: torch.Tensor) -> Figures:
    return figures([Measured(scores, 1.0, 2.0)], seed=0)


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


def test_a_promise_is_kept_when_the_exact_interval_holds_the_nominal_rate() -> None:
    assert ONE.realised_interval == pytest.approx(
        (beta.ppf(0.005, 2, 199), beta.ppf(0.995, 3, 198))
    )
    assert ONE.keeps_its_promise
    loud = measured(
        reference=numbers(0, 199), test_normal=numbers(0, 400), test_anomalous=numbers(0, 9)
    )
    assert loud.realised_interval.low > 0.01
    assert not loud.keeps_its_promise


def test_several_fits_give_the_mean_of_what_each_gives() -> None:
    far, near = (
        Measured(
            {
                "reference": numbers(0, 199),
                "test_normal": numbers(0, 200),
                "test_anomalous": numbers(0, 100) + shift,
            },
            fit_seconds=seconds,
            ms_per_1000=1.0,
        )
        for shift, seconds in ((1_000, 2.0), (-1_000, 4.0))
    )
    found = figures([far, near], seed=0)
    area = found.estimates["auroc"]
    assert area is not None
    assert (area.value, area.low, area.high) == (0.5, 0.0, 1.0)
    assert found.fit_seconds == 3.0
    realised = found.estimates["realised_fpr_alpha_01"]
    assert realised is not None
    assert realised.value == 2 / 200


def test_the_table_has_a_cell_for_every_column() -> None:
    online, offline = rows(Result("t", {}, {"mad": ONE}, {"que": ONE}, {}))
    assert len(online) == len(offline) == len(COLUMNS)
    assert offline[0] == "offline: que"
    assert online[:2] == ("mad", f"{(50 * 174.5 + 25 + 50 * 200) / 20_000:.4f}")


def test_a_terminal_gets_some_of_the_columns() -> None:
    both = Result("t", {}, {"mad": ONE}, {}, {})
    (row,), (short,) = rows(both), brief(both)
    assert (
        dict(zip(BRIEF, short, strict=True)).items() <= dict(zip(COLUMNS, row, strict=True)).items()
    )


RESULTS = [
    Result("first", {"seed": 0}, {"mad": ONE}, {"que": ONE}, {}),
    Result("second", {"seed": 0}, {}, {}, {}),
]


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
