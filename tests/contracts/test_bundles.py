"""Laws of bundles: exact, immutable, and refused when anything about them is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mad.baseline.bundle import Baseline
from mad.baseline.store import BaselineStore, parse_revision
from mad.errors import BaselineError, BaselineNotFoundError, ConfigError
from tests.worlds import World, strange, tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def saved(world: World, root: Path) -> tuple[BaselineStore, Path]:
    store = BaselineStore(root)
    store.save(world.baseline)
    return store, root / "tiny" / "1"


def assert_same(one: Baseline, other: Baseline) -> None:
    assert one.manifest == other.manifest
    assert torch.equal(one.reference, other.reference)
    for left, right in zip(one.parts, other.parts, strict=True):
        assert (left.site, left.term, type(left.code)) == (right.site, right.term, type(right.code))
        for name, value in vars(left.code).items():
            if not name.startswith("_"):
                other_value = getattr(right.code, name)
                same = (
                    torch.equal(value, other_value)
                    if torch.is_tensor(value)
                    else value == other_value
                )
                assert same, name


def test_a_bundle_comes_back_exactly(world: World, tmp_path: Path) -> None:
    store, _ = saved(world, tmp_path)
    expected = replace(world.baseline, manifest=replace(world.baseline.manifest, version=1))
    assert_same(store.load("tiny"), expected)


def test_verdicts_after_a_round_trip_are_identical(world: World, tmp_path: Path) -> None:
    store, _ = saved(world, tmp_path)
    again = replace(world, baseline=store.load("tiny"))
    inputs = {"x": strange(8, seed=3)}
    assert again.monitor.judge(inputs).verdicts == world.monitor.judge(inputs).verdicts


def test_a_new_fit_is_a_new_version_and_the_old_one_stays(world: World, tmp_path: Path) -> None:
    store, first = saved(world, tmp_path)
    before = {file.name: file.read_bytes() for file in first.iterdir()}
    second = store.save(world.baseline)
    assert second.revision == "tiny@2"
    assert {file.name: file.read_bytes() for file in first.iterdir()} == before
    assert [(entry.manifest.version, entry.is_active) for entry in store.entries()] == [
        (2, True),
        (1, False),
    ]
    store.activate("tiny", 1)
    assert store.load("tiny").revision == "tiny@1"
    assert store.load("tiny", 2).revision == "tiny@2"


def test_a_version_saved_without_activating_waits(world: World, tmp_path: Path) -> None:
    store, _ = saved(world, tmp_path)
    store.save(world.baseline, activate=False)
    assert store.load("tiny").revision == "tiny@1"


def truncate(directory: Path) -> None:
    path = directory / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip_one_bit(directory: Path) -> None:
    path = directory / "arrays.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit_threshold(directory: Path) -> None:
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["baseline"]["threshold_bits"] = 1e9
    path.write_text(json.dumps(manifest))


def cut_manifest(directory: Path) -> None:
    (directory / "manifest.json").write_text("{")


def future_format(directory: Path) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


def remove_arrays(directory: Path) -> None:
    (directory / "arrays.safetensors").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "tiny@1: arrays.safetensors .* truncated or was changed"),
        (flip_one_bit, "truncated or was changed"),
        (edit_threshold, "tiny@1/manifest.json was edited since the fit"),
        (cut_manifest, "manifest.json is damaged"),
        (future_format, "bundle format 99; this version reads format 1"),
        (remove_arrays, "cannot read .*arrays.safetensors"),
    ],
)
def test_a_harmed_bundle_is_refused_with_the_reason(
    world: World, tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    store, directory = saved(world, tmp_path)
    harm(directory)
    with pytest.raises(BaselineError, match=message):
        store.load("tiny")


@pytest.mark.parametrize("name", ["absent", "absent@3"])
def test_an_absent_baseline_is_not_found(world: World, tmp_path: Path, name: str) -> None:
    store, _ = saved(world, tmp_path)
    with pytest.raises(BaselineNotFoundError, match="absent"):
        store.load(*parse_revision(name))


@pytest.mark.parametrize("text", ["", "UP", "a b", "x@", "x@y", "../etc", "x@1@2"])
def test_text_that_is_no_revision_is_refused(text: str) -> None:
    with pytest.raises(BaselineNotFoundError, match="name or name@version"):
        parse_revision(text)


def test_a_name_that_would_leave_the_store_is_refused(world: World, tmp_path: Path) -> None:
    outside = replace(world.baseline, manifest=replace(world.baseline.manifest, name="../x"))
    with pytest.raises(ConfigError, match="must match"):
        BaselineStore(tmp_path).save(outside)


def test_a_store_that_cannot_be_written_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the baseline store"):
        BaselineStore(tmp_path / "file").save(world.baseline)


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    assert BaselineStore(tmp_path / "none").entries() == ()
