"""The benchmark of fits by size: that it fits what it says, and shows it."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mad.arrays import open_dataset
from mad.bench.fit_size import SHOWN, FitCost, Format, Stopwatch, measure, show, write


@pytest.mark.parametrize("kind", ["parquet", "safetensors"])
def test_shards_hold_as_many_inputs_as_asked_for(tmp_path: Path, kind: Format) -> None:
    data = open_dataset(write(tmp_path, 200, kind))
    assert len(data) == 200
    x = data.take(torch.arange(200))["x"]
    assert x.shape == (200, 32)
    assert len(x.unique(dim=0)) == 200


def test_a_fit_is_timed_by_stage(tmp_path: Path) -> None:
    cost = measure(write(tmp_path, 800, "safetensors"), steps=2, folder=tmp_path)
    assert cost.inputs == 800
    assert set(SHOWN) <= set(cost.seconds)
    assert min(cost.seconds.values()) >= 0
    assert 0 < cost.own_mb < cost.with_files_mb
    assert not (tmp_path / "unfinished").exists()


def test_a_stopwatch_takes_the_time_between_stages_for_the_codes() -> None:
    readings = iter([1.0, 3.0, 7.0, 9.5])
    watch = Stopwatch(lambda: next(readings))
    for stage in ("fitting codes", "weighing parts"):
        for done in (0, 10):
            watch(stage, done=done, total=10)
    assert watch.seconds() == {
        "fitting codes": 2.0,
        "weighing parts": 2.5,
        "codes from statistics": 4.0,
    }


def test_one_row_a_size_is_shown() -> None:
    printed = io.StringIO()
    costs = [FitCost(n, dict.fromkeys(SHOWN, n / 1000), 12.3, 45.6) for n in (1_000, 2_000_000)]
    show(costs, Console(file=printed, width=200))
    assert "2,000,000" in printed.getvalue()
    assert printed.getvalue().count("2000.0") == len(SHOWN)
