"""Checkpoints of another fit, damaged ones, and places that take none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mad.baseline.bundle import Baseline
from mad.capture.model import MonitoredModel
from mad.components.unexplained import Unexplained
from mad.errors import ConfigError
from mad.fit.checkpoint import INDEX, Checkpoints
from tests.unit.unfinished import PLAN, Fit, Watcher, always, same, tiny_fit
from tests.worlds import Rows, ordinary, tiny_module


@pytest.fixture(scope="module")
def whole() -> Fit:
    return tiny_fit()


@pytest.fixture(scope="module")
def uninterrupted(whole: Fit) -> Baseline:
    return whole.run()


def other_model(whole: Fit) -> Fit:
    model = MonitoredModel.of(tiny_module(seed=1), name="tiny", inputs=["x"])
    return replace(whole, model=model)


def other_dictionaries(whole: Fit) -> Fit:
    return replace(whole, decomposition=Unexplained("3"))


def other_plan(whole: Fit) -> Fit:
    return replace(whole, plan=replace(PLAN, neighbours=30))


def other_row(whole: Fit) -> Fit:
    x = ordinary(600, seed=1)
    x[-1] += 1
    return replace(whole, data=Rows(x))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_model, "model"),
        (other_dictionaries, "dictionaries"),
        (other_plan, "settings"),
        (other_row, "trusted data"),
    ],
)
def test_a_fit_of_anything_else_starts_over_and_says_so(
    tmp_path: Path, whole: Fit, change: Callable[[Fit], Fit], named: str
) -> None:
    whole.killed(always(tmp_path), at=("weighing parts", 64))
    watcher, changed = Watcher(), change(whole)
    fitted = changed.run(watcher, always(tmp_path))
    reason = f"starting over: the unfinished fit was of other {named}"
    assert watcher.beginnings == {
        "fitting codes": (0, reason),
        "weighing parts": (0, ""),
        "calibrating": (0, ""),
    }
    assert same(fitted, changed.run())


def test_more_data_start_over(tmp_path: Path, whole: Fit) -> None:
    model, nothing = whole.model, Unexplained("3")
    few, more = (Fit(model, nothing, Rows(ordinary(n, seed=1))) for n in (600, 610))
    few.killed(always(tmp_path), at=("fitting codes", 64))
    watcher = Watcher()
    assert same(more.run(watcher, always(tmp_path)), more.run())
    assert "of other trusted data" in watcher.beginnings["fitting codes"][1]


def truncate(directory: Path, pattern: str) -> None:
    for path in directory.glob(pattern):
        path.write_bytes(path.read_bytes()[:-1])


def flip(directory: Path, pattern: str) -> None:
    for path in directory.glob(pattern):
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)


def delete(directory: Path, pattern: str) -> None:
    for path in directory.glob(pattern):
        path.unlink()


def replace_by_null(directory: Path, pattern: str) -> None:
    for path in directory.glob(pattern):
        path.write_text("null")


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (truncate, "*.json"),
        (truncate, "*.safetensors"),
        (flip, "*.json"),
        (flip, "*.safetensors"),
        (delete, "*.safetensors"),
        (replace_by_null, "*.json"),
    ],
)
def test_a_damaged_checkpoint_is_not_used(
    tmp_path: Path,
    whole: Fit,
    uninterrupted: Baseline,
    damage: Callable[[Path, str], None],
    pattern: str,
) -> None:
    place, watcher = always(tmp_path), Watcher()
    whole.killed(place, at=("calibrating", 96))
    damage(place.directory, pattern)
    assert same(whole.run(watcher, place), uninterrupted)
    note = f"starting over: {place.directory} is damaged"
    assert watcher.beginnings["fitting codes"] == (0, note)


def test_an_edited_index_is_not_used(tmp_path: Path, whole: Fit) -> None:
    place = always(tmp_path)
    whole.killed(place, at=("fitting codes", 320))
    index = json.loads((place.directory / INDEX).read_text())
    index["stages"]["fitting codes"]["rows"] = 352
    (place.directory / INDEX).write_text(json.dumps(index))
    assert Checkpoints(place, index["identity"]).refused.endswith("is damaged")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, whole: Fit) -> None:
    (tmp_path / "unfinished").write_text("a file where a directory belongs")
    with pytest.raises(ConfigError, match=r"cannot write the checkpoints .*unfinished.*make room"):
        whole.run(place=always(tmp_path))
    with pytest.raises(ConfigError, match="cannot write the checkpoints"):
        always(tmp_path).remove()
