"""Writers at once, in threads and processes, or killed at any step: nothing is half-done."""

import json
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mad.baseline.files import open_files
from mad.baseline.pointer import Pointer
from mad.baseline.store import BaselineStore
from mad.errors import ConflictError
from tests.stores import PLACES, small, store_at
from tests.worlds import World, tiny_world

ROOT = Path(__file__).parents[2]
THREADS = 6


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.mark.parametrize("place", PLACES)
def test_of_promoters_in_threads_one_wins_every_round(
    world: World, tmp_path: Path, place: str
) -> None:
    store = store_at(place, tmp_path)
    for _ in range(THREADS):
        store.save(small(world), activate=False)
    barrier = Barrier(THREADS)

    def promote(version: int) -> bool:
        before = store.pointer("tiny", "active")
        barrier.wait()
        try:
            store.move("tiny", "active", before, before.moved_to(version))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(10):
            won = list(threads.map(promote, range(1, THREADS + 1)))
            assert sum(won) == 1
            assert store.pointer("tiny", "active").version == won.index(True) + 1


@pytest.mark.parametrize("place", PLACES)
def test_fits_at_once_get_numbers_of_their_own(world: World, tmp_path: Path, place: str) -> None:
    store = store_at(place, tmp_path)
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda note: store.save(small(world, note=note)), range(12)))
    assert sorted(one.manifest.version for one in found) == list(range(1, 13))
    assert {entry.manifest.version: entry.manifest.seed for entry in store.entries()} == {
        one.manifest.version: one.manifest.seed for one in found
    }


@pytest.mark.parametrize("place", PLACES)
def test_a_version_is_promoted_or_deleted_and_never_both(
    world: World, tmp_path: Path, place: str
) -> None:
    store = store_at(place, tmp_path)
    store.save(small(world))
    barrier = Barrier(2)

    def attempt(change: int) -> bool:
        before = store.pointer("tiny", "active")
        barrier.wait()
        try:
            if change:
                store.move("tiny", "active", before, before.moved_to(candidate))
            else:
                store.delete("tiny", candidate)
        except Exception:  # noqa: BLE001  # lost, in whatever way
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            store.activate("tiny", 1)
            candidate = store.save(small(world), activate=False).manifest.version
            is_deleted, is_promoted = threads.map(attempt, range(2))
            assert not (is_deleted and is_promoted)
            assert (store.pointer("tiny", "active").version == candidate) == is_promoted
            assert store.load("tiny").manifest.name == "tiny"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["directory", "file"])
def test_no_swap_is_lost_between_processes(tmp_path: Path, place: str) -> None:
    root = str(tmp_path) if place == "directory" else f"file://{tmp_path}"
    (tmp_path / "tiny").mkdir()
    with ExitStack() as stack:
        racers = [stack.enter_context(racing(root, times=40)) for _ in range(3)]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.close()
        assert [racer.wait(timeout=100) for racer in racers] == [0, 0, 0]
    assert open_files(root if "://" in root else Path(root)).cell("tiny/active") == b"120\n"


def racing(root: str, *, times: int) -> "subprocess.Popen[str]":
    """Start a process that counts in a cell once it is told to."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.racing", root, str(times)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_a_writer_that_looked_long_ago_takes_no_number_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    late, busy = open_files(root), open_files(root)
    look = MemoryFileSystem.cat_file

    def look_then_wait(*arguments: Any) -> bytes:  # noqa: ANN401  # as it is called
        content: bytes = look(*arguments)
        monkeypatch.undo()
        for number in range(1, 61):
            assert busy.swap("tiny/active", f"{number}\n".encode(), f"{number + 1}\n".encode())
        return content

    assert late.swap("tiny/active", None, b"1\n")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", look_then_wait)
    assert not late.swap("tiny/active", b"1\n", b"mine\n")
    assert late.cell("tiny/active") == b"61\n"


def test_what_a_cell_held_long_ago_goes_and_its_last_contents_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = open_files(f"memory://{uuid.uuid4().hex}")
    # A store whose clock says that a day goes by between two swaps.
    began = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(
        MemoryFileSystem,
        "modified",
        lambda _, path: began + timedelta(days=int(path.rpartition(".")[2])),
    )
    for number in range(100):
        old = f"{number}\n".encode() if number else None
        assert files.swap("tiny/active", old, f"{number + 1}\n".encode())
    assert files.cell("tiny/active") == b"100\n"
    assert sorted(files.names("tiny")) == [f"active.{number:06}" for number in range(84, 101)]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["directory", "file"])
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, place: str) -> None:
    root = f"{tmp_path}/baselines" if place == "directory" else f"file://{tmp_path}/baselines"
    command = [sys.executable, "-m", "tests.dying", root]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(run.stdout)
    assert [found["wrong"] for found in told.values()] == [[]] * 5
    assert min(found["deaths"] for found in told.values()) >= 2
    assert told["save"]["deaths"] >= 5


def test_a_half_written_swap_counts_for_nothing(world: World, tmp_path: Path) -> None:
    store = BaselineStore(f"file://{tmp_path}/baselines")
    for _ in range(2):
        store.save(small(world))
    (tmp_path / "baselines" / "tiny" / "active.000003").write_text("1")
    before = store.pointer("tiny", "active")
    assert before == Pointer(2, (1,), b"2\n1\n")
    store.move("tiny", "active", before, before.moved_to(1))
    assert store.load("tiny").revision == "tiny@1"
