"""A fit that is killed goes on where it was, and ends as if nothing had happened."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, ItemsView
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
import torch
from jaxtyping import Int64
from torch import Tensor

from mad.baseline import format as bundle_format
from mad.baseline.bundle import Baseline
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.components.unexplained import Unexplained
from mad.errors import ConfigError
from mad.fit import FitPlan, Unfinished, fit, split
from mad.fit.checkpoint import INDEX, Checkpoints
from mad.types import Dataset, Inputs
from tests.worlds import CREATED, Rows, World, ordinary, quiet, tiny_module, tiny_world

ROOT = Path(__file__).parents[2]
PLAN = FitPlan(
    name="tiny",
    false_alarm_rate=0.05,
    batch_size=32,
    magnitudes=True,
    residual_by_context=True,
)
STAGES = {"fitting codes": 360, "weighing parts": 90, "calibrating": 150}


class KilledError(Exception):
    """Stands for a kill: nothing of ours catches it."""


@dataclass
class Watcher:
    """Hears how far a fit is, and may end it there."""

    dies_at: tuple[str, int] = ("", 0)
    said: list[tuple[str, int, str]] = field(default_factory=list)

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        assert 0 <= done <= total
        self.said.append((stage, done, note))
        if self.dies_at == (stage, done):
            raise KilledError

    @property
    def beginnings(self) -> dict[str, tuple[int, str]]:
        """Where each stage began, and what was said."""
        return {stage: (done, note) for stage, done, note in reversed(self.said)}


@dataclass
class Watched:
    """Rows that remember which of them were read."""

    rows: Rows
    read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        self.read += rows.tolist()
        return self.rows.take(rows)


@dataclass(frozen=True)
class Fit:
    """Everything that a fit depends on."""

    model: MonitoredModel
    decomposition: Decomposition
    data: Dataset
    plan: FitPlan = PLAN

    def run(self, watcher: Watcher | None = None, place: Unfinished | None = None) -> Baseline:
        return fit(
            self.model,
            self.decomposition,
            self.data,
            self.plan,
            created=CREATED,
            progress=watcher or quiet,
            unfinished=place,
        )

    def killed(self, place: Unfinished, *, at: tuple[str, int]) -> None:
        with pytest.raises(KilledError):
            self.run(Watcher(at), place)


def always(directory: Path) -> Unfinished:
    """Keep a checkpoint after every batch: by a clock that stands still, writing takes no time."""
    return Unfinished(directory / "unfinished", every_s=0.0, clock=lambda: 0.0)


def same(one: Baseline, other: Baseline) -> bool:
    """Compare every bit of two bundles."""
    return bundle_format.encode(one) == bundle_format.encode(other)


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world(PLAN, sites=("3",))


@pytest.fixture(scope="module")
def whole(world: World) -> Fit:
    return Fit(world.model, world.decomposition, world.trusted)


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


def test_a_fit_that_goes_on_reads_none_of_what_it_has_taken_in(tmp_path: Path, whole: Fit) -> None:
    fitting = split(600, PLAN).fitting
    whole.killed(always(tmp_path), at=("fitting codes", 320))
    unread = Watched(Rows(ordinary(600, seed=1)))
    replace(whole, data=unread).run(place=always(tmp_path))
    # Each checkpoint names the data by 64 of its rows; the model is tried out on the first.
    sample = torch.linspace(0, 599, 64, dtype=torch.float64).long().tolist()
    assert set(unread.read[1 + len(sample) :]) & set(fitting[:320].tolist()) == set()
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


def test_a_fit_without_a_checkpoint_begins_at_the_first_row(tmp_path: Path, whole: Fit) -> None:
    watcher = Watcher()
    whole.run(watcher, always(tmp_path))
    assert set(watcher.beginnings.values()) == {(0, "")}


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, whole: Fit) -> None:
    (tmp_path / "unfinished").write_text("a file where a directory belongs")
    with pytest.raises(ConfigError, match=r"cannot write the checkpoints .*unfinished.*make room"):
        whole.run(place=always(tmp_path))
    with pytest.raises(ConfigError, match="cannot write the checkpoints"):
        always(tmp_path).remove()


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
from tests.unit.test_fit_checkpoint import Fit, always
from tests.worlds import tiny_world
from tests.unit.test_fit_checkpoint import PLAN

def slow(stage, *, done, total, note=""):
    time.sleep(0.05)

world = tiny_world(PLAN, sites=("3",))
Fit(world.model, world.decomposition, world.trusted).run(slow, always(Path(sys.argv[1])))
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
