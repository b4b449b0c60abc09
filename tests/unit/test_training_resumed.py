"""A training that is killed goes on where it was, and ends in the same weights bit for bit."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.kinds.registry import LEARNERS
from mad.components.dictionaries.plan import DictionaryPlan, Kind
from mad.errors import ConfigError
from mad.fit import ModelSource, Room, Trained, Unfinished, Wanted, train_together
from mad.fit.checkpoint import INDEX
from tests.unit.test_sizes import sparse_sums
from tests.worlds import Rows, ordinary, quiet, tiny_module

ROOT = Path(__file__).parents[2]
PLAN = DictionaryPlan(width=16, k=2, steps=20, batch_size=32, dead_after=200, search=False)
STREAMED = Room(vectors=256, read=32)
WANTED = (
    Wanted(plan=PLAN, sites=("1", "3")),
    Wanted(plan=replace(PLAN, width=24, steps=12), sites=("3",), suffix="wide"),
)


class KilledError(Exception):
    """Stands for a kill: nothing of ours catches it."""


@dataclass
class Steps:
    """Hears of steps, and may end the training at one."""

    dies_at: tuple[str, int] = ("", 0)
    notes: dict[str, list[str]] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        assert 0 <= done <= total
        self.notes.setdefault(stage, []).append(note)
        self.counted[stage] = self.counted.get(stage, 0) + 1
        if (stage, done) == self.dies_at:
            raise KilledError


def run(
    place: Unfinished | None = None,
    progress: Callable[..., None] = quiet,
    *,
    wanted: tuple[Wanted, ...] = WANTED,
    room: Room = STREAMED,
    seed: int = 1,
) -> Trained:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    source = ModelSource.of(model, ("1", "3"), Rows(ordinary(600, seed=seed)), torch.arange(600))
    return train_together(source, wanted, seed=0, progress=progress, room=room, unfinished=place)


def always(directory: Path) -> Unfinished:
    """Keep a checkpoint after every step: by a clock that stands still, writing takes no time."""
    return Unfinished(directory / "unfinished", every_s=0.0, clock=lambda: 0.0, what="training")


def killed(place: Unfinished, at: tuple[str, int], room: Room = STREAMED) -> None:
    with pytest.raises(KilledError):
        run(place, Steps(at), room=room)


def same(one: Trained, other: Trained) -> bool:
    return (
        [part.fingerprint for part in one.dictionaries]
        == [part.fingerprint for part in other.dictionaries]
        and one.figures == other.figures
        and torch.equal(one.seen, other.seen)
    )


@pytest.fixture(scope="module")
def streamed() -> Trained:
    return run()


@pytest.fixture(scope="module")
def whole() -> Trained:
    return run(room=Room())


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        ("training dictionary 1", 3),
        ("training dictionary 1", 20),
        ("training dictionary 3", 9),
        ("training dictionary 3:wide", 12),
    ],
)
def test_a_killed_training_on_a_stream_goes_on_to_the_same_weights(
    tmp_path: Path, streamed: Trained, stage: str, step: int
) -> None:
    killed(always(tmp_path), (stage, step))
    heard = Steps()
    assert same(run(always(tmp_path), heard), streamed)
    steps = 12 if "wide" in stage else 20
    assert heard.notes[stage][0] == f"resuming at step {step - 1} of {steps}"


@pytest.mark.parametrize(
    ("stage", "step"), [("training dictionary 1", 7), ("training dictionary 3:wide", 2)]
)
def test_a_killed_training_in_memory_goes_on_to_the_same_weights(
    tmp_path: Path, whole: Trained, stage: str, step: int
) -> None:
    killed(always(tmp_path), (stage, step), Room())
    heard = Steps()
    assert same(run(always(tmp_path), heard, room=Room()), whole)
    steps = 12 if "wide" in stage else 20
    assert heard.notes[stage][0] == f"resuming at step {step - 1} of {steps}"


def test_a_training_killed_again_and_again_ends_all_the_same(
    tmp_path: Path, streamed: Trained
) -> None:
    """Every second reading of the clock a checkpoint is due, so some steps are done twice."""
    readings = iter(range(10**6))
    place = Unfinished(tmp_path / "unfinished", every_s=5.0, clock=lambda: float(next(readings)))
    for site, step in (("1", 9), ("3", 11), ("1", 17), ("3", 19)):
        killed(place, (f"training dictionary {site}", step))
    assert same(run(place), streamed)


def test_steps_that_were_taken_are_not_taken_again(tmp_path: Path) -> None:
    killed(always(tmp_path), ("training dictionary 1", 20), Room())
    heard = Steps()
    run(always(tmp_path), heard, room=Room())
    # One report where it begins, and one of the last step, which was not yet kept.
    assert heard.counted["training dictionary 1"] == 2


@pytest.mark.parametrize("kind", sorted(LEARNERS))
def test_every_kind_goes_on_to_the_same_weights(tmp_path: Path, kind: Kind) -> None:
    plan = replace(PLAN, kind=kind, dead="resample" if kind == "relu" else "auxiliary")
    wanted = (Wanted(plan=plan, sites=("3",)),)
    with pytest.raises(KilledError):
        run(always(tmp_path), Steps(("training dictionary 3", 15)), wanted=wanted)
    heard = Steps()
    again = run(always(tmp_path), heard, wanted=wanted)
    assert heard.notes["training dictionary 3"][0] == "resuming at step 14 of 20"
    assert same(again, run(wanted=wanted))


def test_a_skip_goes_on_too(tmp_path: Path) -> None:
    plan = replace(PLAN, skip=True)
    wanted = (Wanted(plan=plan, sites=("3",), sources=("1",), form="transcoder"),)
    with pytest.raises(KilledError):
        run(always(tmp_path), Steps(("training dictionary 3", 15)), wanted=wanted)
    assert same(run(always(tmp_path), wanted=wanted), run(wanted=wanted))


def test_a_second_dictionary_is_not_searched_for_twice(tmp_path: Path) -> None:
    vectors = sparse_sums(1_500)
    identity = MonitoredModel.of(torch.nn.Sequential(torch.nn.Identity()), name="m", inputs=["x"])
    rows = torch.arange(len(vectors))
    wanted = [
        Wanted(plan=replace(PLAN, search=True, steps=20), sites=("0",)),
        Wanted(plan=PLAN, sites=("0",), suffix="b"),
    ]

    def search(place: Unfinished | None, heard: Steps) -> Trained:
        source = ModelSource.of(identity, ["0"], Rows(vectors), rows)
        return train_together(source, wanted, seed=0, progress=heard, unfinished=place)

    first, again = Steps(), Steps()
    found = search(always(tmp_path), first)
    assert same(search(always(tmp_path), again), found)
    stage = "sizing a second dictionary for 0"
    assert stage in first.counted
    assert stage not in again.counted


def test_a_training_by_the_answer_that_was_finished_is_kept(tmp_path: Path) -> None:
    wanted = (Wanted(plan=replace(PLAN, steps=5), sites=("1", "3"), objective="end_to_end"),)
    stage = "training 3 end to end"
    with pytest.raises(KilledError):
        run(always(tmp_path), Steps((stage, 2)), wanted=wanted)
    heard = Steps()
    assert same(run(always(tmp_path), heard, wanted=wanted), run(wanted=wanted))
    assert stage in heard.counted
    assert "training 1 end to end" not in heard.counted


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "trusted data"),
        ({"room": Room(vectors=300, read=32)}, ""),
        ({"room": Room()}, "settings"),
        ({"wanted": WANTED[:1]}, "settings"),
    ],
)
def test_what_another_training_left_is_not_used(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    killed(always(tmp_path), ("training dictionary 1", 10))
    heard = Steps()
    run(always(tmp_path), heard, **change)  # type: ignore[arg-type]  # of several kinds
    said = heard.notes["training dictionary 1"][0]
    if named:
        assert said == f"starting over: the unfinished training was of other {named}"
    else:
        # A buffer of 300 has halves of as many whole pieces as one of 256.
        assert said.startswith("resuming at step")


def test_a_damaged_checkpoint_starts_over_and_says_why(tmp_path: Path, streamed: Trained) -> None:
    place = always(tmp_path)
    killed(place, ("training dictionary 1", 10))
    stages = json.loads((place.directory / INDEX).read_text())["stages"]
    file = place.directory / stages["training dictionary 1"]["values"]["state"]["file"]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    heard = Steps()
    assert same(run(place, heard), streamed)
    said = heard.notes["training dictionary 1"][0]
    assert said == f"starting over: {place.directory} is damaged"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "unfinished").write_text("a file where a directory belongs")
    with pytest.raises(ConfigError, match=r"checkpoints of this training to .*unfinished: "):
        run(always(tmp_path))


SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.unit.test_training_resumed import always, run

def slow(stage, *, done, total, note=""):
    time.sleep(0.03)

run(always(Path(sys.argv[1])), slow)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_changes_no_bit(tmp_path: Path, streamed: Trained) -> None:
    index = tmp_path / "unfinished" / INDEX
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT) as process:
        try:
            while not index.exists() or "dictionary 3" not in index.read_text():
                assert process.poll() is None
                time.sleep(0.01)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    heard = Steps()
    assert same(run(always(tmp_path), heard), streamed)
    assert heard.notes["training dictionary 1"][0].startswith("resuming at step ")
