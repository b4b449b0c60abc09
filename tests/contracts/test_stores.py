"""Laws of a store, wherever it is kept: a directory, a file system by URL, or memory."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mad.baseline.bundle import Provenance
from mad.baseline.store import BaselineStore
from mad.errors import BaselineError, BaselineNotFoundError, ConfigError, ConflictError
from tests.stores import PLACES, small, store_at
from tests.worlds import World, tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(params=PLACES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BaselineStore:
    return store_at(request.param, tmp_path)


def versions(store: BaselineStore) -> list[int]:
    return [entry.manifest.version for entry in store.entries()]


def pointed(store: BaselineStore) -> tuple[int | None, int | None]:
    return store.pointer("tiny", "active").version, store.pointer("tiny", "shadow").version


def promote(store: BaselineStore, version: int) -> None:
    before = store.pointer("tiny", "active")
    store.move("tiny", "active", before, before.moved_to(version))


def back(store: BaselineStore) -> None:
    before = store.pointer("tiny", "active")
    store.move("tiny", "active", before, store.behind("tiny", before))


def shadow(store: BaselineStore, version: int) -> None:
    before = store.pointer("tiny", "shadow")
    store.move("tiny", "shadow", before, before.moved_to(version))


def test_what_was_saved_comes_back_by_number(world: World, store: BaselineStore) -> None:
    for note in (7, 8):
        store.save(small(world, note=note), provenance=Provenance(inputs=note))
    assert [store.load("tiny", version).manifest.seed for version in (1, 2)] == [7, 8]
    assert store.load("tiny").revision == "tiny@2"
    assert [entry.provenance.inputs for entry in store.entries()] == [8, 7]


def test_a_whole_baseline_judges_as_before(world: World, store: BaselineStore) -> None:
    store.save(world.baseline)
    again = replace(world, baseline=store.load("tiny"))
    inputs = {"x": world.trusted.x[:5]}
    assert again.monitor.judge(inputs).verdicts == world.monitor.judge(inputs).verdicts


def test_aliases_say_which_version_they_are_of(world: World, store: BaselineStore) -> None:
    store.save(small(world))
    for _ in range(2):
        store.save(small(world), activate=False)
    assert pointed(store) == (1, None)
    shadow(store, 2)
    assert [entry.aliases for entry in store.entries()] == [(), ("shadow",), ("active",)]
    assert [entry.is_active for entry in store.entries()] == [False, False, True]


def test_a_promoted_shadow_is_no_shadow_any_more(world: World, store: BaselineStore) -> None:
    for _ in range(2):
        store.save(small(world))
    promote(store, 1)
    shadow(store, 2)
    promote(store, 2)
    assert pointed(store) == (2, None)


def test_of_two_who_read_one_pointer_one_moves_it(world: World, store: BaselineStore) -> None:
    for _ in range(3):
        store.save(small(world), activate=False)
    before = store.pointer("tiny", "active")
    store.move("tiny", "active", before, before.moved_to(1))
    with pytest.raises(ConflictError, match=r"active version of 'tiny' is no longer none; look"):
        store.move("tiny", "active", before, before.moved_to(2))
    assert pointed(store) == (1, None)


def test_a_pointer_that_came_back_is_not_what_was_read(world: World, store: BaselineStore) -> None:
    for _ in range(2):
        store.save(small(world))
    before = store.pointer("tiny", "active")
    promote(store, 1)
    promote(store, 2)
    with pytest.raises(ConflictError):
        store.move("tiny", "active", before, before.moved_to(1))


def test_going_back_goes_through_what_was_active_and_is_still_there(
    world: World, store: BaselineStore
) -> None:
    for _ in range(4):
        store.save(small(world))
    store.delete("tiny", 3)
    back(store)
    assert pointed(store) == (2, None)
    back(store)
    assert pointed(store) == (1, None)
    with pytest.raises(BaselineNotFoundError, match="no earlier active version of 'tiny'"):
        back(store)


def test_what_an_alias_points_at_is_not_deleted(world: World, store: BaselineStore) -> None:
    for _ in range(2):
        store.save(small(world))
    shadow(store, 1)
    for version, alias in ((2, "active"), (1, "shadow")):
        with pytest.raises(ConflictError, match=f"tiny@{version} is the {alias} version; point"):
            store.delete("tiny", version)
    assert versions(store) == [2, 1]


def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(
    world: World, store: BaselineStore
) -> None:
    store.save(small(world))
    store.save(small(world), activate=False)
    store.delete("tiny", 2)
    assert versions(store) == [1]
    for use in (
        lambda: store.load("tiny", 2),
        lambda: store.entry("tiny", 2),
        lambda: store.activate("tiny", 2),
        lambda: shadow(store, 2),
        lambda: store.delete("tiny", 2),
    ):
        with pytest.raises(BaselineNotFoundError, match="there is no baseline tiny@2"):
            use()
    assert store.save(small(world)).revision == "tiny@3"


def test_a_pointer_of_one_bare_number_is_read(world: World, tmp_path: Path) -> None:
    store = store_at("directory", tmp_path)
    for _ in range(2):
        store.save(small(world))
    (tmp_path / "baselines" / "tiny" / "active").write_text("1")
    assert store.load("tiny").revision == "tiny@1"
    promote(store, 2)
    back(store)
    assert pointed(store) == (1, None)


@pytest.mark.parametrize("content", ["", "one\n", "-1\n", "1\nnone\n", json.dumps({"version": 1})])
def test_a_pointer_that_is_none_is_refused(world: World, tmp_path: Path, content: str) -> None:
    store = store_at("directory", tmp_path)
    store.save(small(world))
    (tmp_path / "baselines" / "tiny" / "active").write_text(content)
    with pytest.raises(BaselineError, match="active holds no version number; activate one again"):
        store.load("tiny")


@pytest.mark.parametrize("url", ["nowhere://bucket/baselines", "s3://bucket/baselines"])
def test_a_url_that_cannot_be_opened_says_what_is_missing(url: str) -> None:
    with pytest.raises(ConfigError, match=f"baseline.store = '{url}' cannot be opened"):
        BaselineStore(url).entries()


def test_a_place_that_cannot_be_written_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the baseline store file://.*/file/tiny"):
        BaselineStore(f"file://{tmp_path}/file").save(small(world))
