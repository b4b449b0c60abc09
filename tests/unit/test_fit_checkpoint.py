"""A fit that is killed goes on where it was, and ends as if nothing had happened."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import ItemsView
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from mad import tensors
from mad.baseline.bundle import Baseline
from mad.fit import Unfinished, split
from mad.fit.checkpoint import INDEX, Checkpoints
from mad.fit.statistics import Growing, Sampled, SiteStatistics
from mad.fit.written import read, written
from mad.types import Activity, Ledger
from tests.unit.unfinished import PLAN, STAGES, Fit, Watched, Watcher, always, same, tiny_fit
from tests.worlds import Rows, ordinary

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole() -> Fit:
    return tiny_fit()


@pytest.fixture(scope="module")
def uninterrupted(whole: Fit) -> Baseline:
    return whole.run()


@pytest.mark.parametrize(
    ("stage", "row"),
    [
        ("fitting codes", 32),
        ("fitting codes", 320),
        ("fitting codes", 360),
        ("weighing parts", 64),
        ("weighing parts", 90),
        ("calibrating", 128),
        ("calibrating", 150),
    ],
)
def test_a_killed_fit_goes_on_to_the_same_baseline_bit_for_bit(
    tmp_path: Path, whole: Fit, uninterrupted: Baseline, stage: str, row: int
) -> None:
    whole.killed(always(tmp_path), at=(stage, row))
    watcher = Watcher()
    assert same(whole.run(watcher, always(tmp_path)), uninterrupted)
    note = f"resuming at row {row} of {STAGES[stage]}"
    assert watcher.beginnings[stage] == (row, note)
    assert watcher.said[-1][:2] == ("calibrating", 150)


def test_a_fit_that_goes_on_reads_none_of_what_it_has_taken_in(
    tmp_path: Path, whole: Fit, uninterrupted: Baseline
) -> None:
    fitting = split(600, PLAN).fitting
    whole.killed(always(tmp_path), at=("fitting codes", 320))
    unread = Watched(Rows(ordinary(600, seed=1)))
    replace(whole, data=unread).run(place=always(tmp_path))
    # Each checkpoint names the data by 64 of its rows; the model is tried out on the first. Rows
    # that explanations name are read once more at the end, for their digests.
    sample = torch.linspace(0, 599, 64, dtype=torch.float64).long().tolist()
    named = uninterrupted.trusted.rows.tolist()
    assert unread.read[-len(named) :] == named
    taken_in = unread.read[1 + len(sample) : -len(named)]
    assert set(taken_in) & set(fitting[:320].tolist()) == set()
    assert set(fitting[320:].tolist()) < set(unread.read)


def test_a_fit_killed_again_and_again_ends_all_the_same(
    tmp_path: Path, whole: Fit, uninterrupted: Baseline
) -> None:
    """Every second reading of the clock a checkpoint is due, so some batches are done twice."""
    ticks = count()
    place = Unfinished(tmp_path / "unfinished", every_s=5.0, clock=lambda: float(next(ticks)))
    for stage, rows in STAGES.items():
        for row in range(96, rows, 96):
            whole.killed(place, at=(stage, row))
    assert same(whole.run(place=place), uninterrupted)


def test_a_fit_that_is_quick_writes_nothing(tmp_path: Path, whole: Fit) -> None:
    whole.run(place=Unfinished(tmp_path / "unfinished", every_s=20.0, clock=lambda: 5.0))
    assert not (tmp_path / "unfinished").exists()


def test_only_the_last_checkpoint_of_each_stage_is_kept_and_no_pickle(
    tmp_path: Path, whole: Fit
) -> None:
    place = always(tmp_path)
    whole.run(place=place)
    index = json.loads((place.directory / INDEX).read_text())
    assert {stage: one["rows"] for stage, one in index["stages"].items()} == STAGES
    named = [row["file"] for one in index["stages"].values() for row in one["values"].values()]
    assert len(named) == 4  # the site, ledgers, measures and contexts
    assert {path.name for path in place.directory.iterdir()} == {INDEX, *named}
    assert all(name.endswith(".safetensors") for name in named)
    place.remove()
    assert not place.directory.exists()
    place.remove()


def test_a_fit_without_a_checkpoint_begins_at_the_first_row(tmp_path: Path, whole: Fit) -> None:
    watcher = Watcher()
    whole.run(watcher, always(tmp_path))
    assert set(watcher.beginnings.values()) == {(0, "")}


class Vanishing(dict[str, object]):
    """Values that take so long to write that another fit of the name has cleaned up by then."""

    directory: Path

    def items(self) -> ItemsView[str, object]:  # type: ignore[override]  # of the same items
        shutil.rmtree(self.directory)
        return ItemsView(self)


def test_another_fit_that_cleans_up_meanwhile_does_no_harm(tmp_path: Path) -> None:
    place = always(tmp_path)
    checkpoints, values = Checkpoints(place, {}), Vanishing(count=1)
    values.directory = place.directory
    checkpoints.offer("one", 1, values)
    assert not place.directory.exists()
    checkpoints.offer("two", 2, {"count": 2})
    found = Checkpoints(place, {})
    assert (found.found("one").rows, found.found("two").rows) == (0, 2)


def test_writing_takes_a_twentieth_of_the_time_at_most(tmp_path: Path) -> None:
    """The third and fourth readings are before and after a write that takes ten seconds."""
    readings = iter([0.0, 19.9, 20.0, 20.0, 30.0, 229.9, 230.0, 230.0, 231.0])
    place = Unfinished(tmp_path, every_s=20.0, clock=lambda: next(readings))
    checkpoints = Checkpoints(place, {})
    written = []
    for rows in range(1, 5):
        checkpoints.offer("stage", rows, {"sum": torch.tensor(float("inf"))})
        index = tmp_path / INDEX
        written.append(json.loads(index.read_text())["stages"]["stage"]["rows"] if rows > 1 else 0)
    assert written == [0, 2, 2, 4]
    found = Checkpoints(Unfinished(tmp_path), {}).found("stage")
    assert (found.rows, found.values) == (4, {"sum": torch.tensor(float("inf"))})


SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.unit.unfinished import always, tiny_fit

def slow(stage, *, done, total, note=""):
    time.sleep(0.05)

tiny_fit().run(slow, always(Path(sys.argv[1])))
"""


def test_kill_9_in_the_middle_loses_nothing(
    tmp_path: Path, whole: Fit, uninterrupted: Baseline
) -> None:
    place = always(tmp_path)
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT) as process:
        try:
            while not (place.directory / INDEX).exists():
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    watcher = Watcher()
    assert same(whole.run(watcher, place), uninterrupted)
    row, note = watcher.beginnings["fitting codes"]
    assert row in range(32, 360, 32)
    assert note == f"resuming at row {row} of 360"


def through_a_file(value: object) -> object:
    row, arrays = written(value)
    content = tensors.serialise(arrays)
    return read(json.loads(json.dumps(row)), tensors.parse_tensors(content, name="a file"))


def bits_of(value: object) -> tuple[object, dict[str, object]]:
    row, arrays = written(value)
    return row, {name: array.tolist() for name, array in arrays.items()}


def test_lengths_that_are_infinite_or_no_numbers_are_written_bit_for_bit() -> None:
    odd = torch.tensor([[0.1, torch.inf], [torch.nan, -0.0]], dtype=torch.float64)
    ledger = Ledger((("3", "set"), ("3", "residual")), odd, odd.flip(0))
    again = through_a_file(ledger)
    assert isinstance(again, Ledger)
    assert again.keys == ledger.keys
    assert bits_of(again) == bits_of(ledger)


@pytest.mark.parametrize(("coordinates", "keeps"), [(3, True), (3, False), (4_100, True)])
def test_statistics_of_any_kind_are_written_bit_for_bit(coordinates: int, *, keeps: bool) -> None:
    vectors = torch.randn(4, coordinates, generator=torch.Generator().manual_seed(0))
    activity = Activity(
        torch.tensor([0, 1, 1, 3, 4]),
        torch.tensor([2, 0, 1, 1]),
        torch.tensor([0.5, -1.0, 2.0, 3.0]),
        vectors,
        vectors.half(),
        4,
    )
    rows = torch.arange(4)
    sampled = Sampled(rows, rows > 0, rows > 1)
    own = SiteStatistics.of(activity, rows % 2, sampled, PLAN, keeps_neighbours=keeps)
    growing = Growing.of(own).add(own)
    again = through_a_file(growing)
    assert isinstance(again, Growing)
    assert bits_of(again) == bits_of(growing)
    assert bits_of(again.add(own).statistics) == bits_of(growing.add(own).statistics)
