"""Laws of bundles: exact, immutable, and refused when anything about them is wrong."""

import hashlib
import json
import resource
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from mad.baseline.bundle import Provenance
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


def assert_same(one: object, other: object) -> None:
    """Compare values made of dataclasses, tuples, tensors and plain values, field by field."""
    assert type(one) is type(other)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, tuple) and isinstance(other, tuple):
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


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


def test_a_version_says_where_its_data_came_from(world: World, tmp_path: Path) -> None:
    store, _ = saved(world, tmp_path)
    made = Provenance(principal="ada", source="week 48", inputs=600, quarantined_inputs=2)
    store.save(world.baseline, provenance=made)
    assert [entry.provenance for entry in store.entries()] == [made, Provenance()]


def test_a_version_of_before_provenance_was_kept_reads_as_unknown(
    world: World, tmp_path: Path
) -> None:
    store, directory = saved(world, tmp_path)
    resealed(directory, lambda manifest: manifest.pop("provenance"))
    assert store.entry("tiny", 1).provenance == Provenance()


def test_a_provenance_that_was_edited_is_refused(world: World, tmp_path: Path) -> None:
    store, directory = saved(world, tmp_path)
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["provenance"]["principal"] = "eve"
    path.write_text(json.dumps(manifest))
    with pytest.raises(BaselineError, match="was edited since the fit"):
        store.entry("tiny", 1)
    resealed(directory, lambda manifest: manifest["provenance"].update(inputs="1"))
    with pytest.raises(BaselineError, match="does not describe a baseline"):
        store.entry("tiny", 1)


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


def resealed(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest and give it the digest of what it says now."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    change(manifest)
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest | {"digest": digest}))


def remove_arrays(directory: Path) -> None:
    (directory / "arrays.safetensors").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "tiny@1: arrays.safetensors .* truncated or was changed"),
        (flip_one_bit, "truncated or was changed"),
        (edit_threshold, "tiny@1/manifest.json was edited since the fit"),
        (cut_manifest, "manifest.json is damaged"),
        (future_format, "bundle format 99; this version reads formats 2 and 3"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.pop("baseline"), "KeyError.'baseline'"),
        (lambda manifest: manifest.pop("arrays"), "KeyError.'arrays'"),
        (lambda manifest: manifest.pop("parts"), "KeyError.'parts'"),
        (lambda manifest: manifest.update(parts=7), "not iterable"),
        (lambda manifest: manifest["parts"].append(manifest["parts"][0]), "missing .* arguments?"),
        (lambda manifest: manifest["parts"][0].pop("numbers"), "KeyError.'numbers'"),
        (lambda manifest: manifest["parts"][0].update(kind="gauss"), "code 'gauss', which"),
        (lambda manifest: manifest["baseline"].pop("seed"), r"differs in \['seed'\]"),
        (
            lambda manifest: manifest["baseline"].update(created="yesterday"),
            "created: Input should",
        ),
        (lambda manifest: manifest["baseline"].update(inputs=[{}]), "inputs.0.name: Field requ"),
        (lambda manifest: manifest["baseline"].update(alert_on="luck"), "alert_on: .*'mechanism'"),
        (
            lambda manifest: manifest["baseline"].update(seed="1"),
            "seed: Input should be a valid in",
        ),
        (lambda manifest: manifest["baseline"].update(reference_inputs=9), "150.*should .* 9"),
        (lambda manifest: manifest["parts"].pop(), "should number"),
        (lambda manifest: manifest["parts"][0].pop("marginal"), "should number"),
        (
            lambda manifest: manifest["parts"][2]["numbers"].update(floor_bits="1"),
            "floor_bits",
        ),
        (lambda manifest: manifest["parts"][0]["codes"].update(members=[]), "BayesCode.weight"),
    ],
)
def test_a_manifest_that_is_whole_but_wrong_is_refused(
    world: World, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    store, directory = saved(world, tmp_path)
    resealed(directory, change)
    with pytest.raises(BaselineError, match=message):
        store.load("tiny")


@pytest.mark.parametrize("place", ["tiny/2", "other/1"])
def test_a_bundle_in_the_place_of_another_is_refused(
    world: World, tmp_path: Path, place: str
) -> None:
    store, directory = saved(world, tmp_path)
    shutil.copytree(directory, tmp_path / place)
    name, version = place.split("/")
    with pytest.raises(BaselineError, match=r"holds baseline tiny@1; move it to its place"):
        store.load(name, int(version))


def changed_arrays(directory: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the arrays of a bundle and give it the digests of what it holds now."""
    path = directory / "arrays.safetensors"
    arrays = load(path.read_bytes())
    change(arrays)
    path.write_bytes(save(arrays))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    resealed(directory, lambda manifest: manifest["arrays"].update(sha256=digest))


@pytest.mark.parametrize(
    "name",
    [
        "references",
        "contexts",
        "weighing.parts.knots",
        "weighing.totals.typical",
        "weighing.place",
        "weighing.power",
        "part.0.weight",
        "part.0.members.1.shift",
        "part.0.memory.rows",
        "part.1.start",
        "part.2.mean",
        "part.3.directions",
    ],
)
@pytest.mark.parametrize("harm", ["missing", "short", "deep", "coarse"])
def test_an_array_that_is_missing_or_of_another_shape_is_refused(
    world: World, tmp_path: Path, name: str, harm: str
) -> None:
    store, directory = saved(world, tmp_path)

    def change(arrays: dict[str, Tensor]) -> None:
        array = arrays.pop(name)
        harmed = {"short": array[:-1], "deep": array.unsqueeze(0), "coarse": array.half()}
        if harm in harmed:
            arrays[name] = harmed[harm].clone()

    changed_arrays(directory, change)
    with pytest.raises(BaselineError, match=r"tiny@1/.* does not (describe|fit) .*; fit again"):
        store.load("tiny")


@pytest.mark.parametrize("name", ["absent", "absent@3"])
def test_an_absent_baseline_is_not_found(world: World, tmp_path: Path, name: str) -> None:
    store, _ = saved(world, tmp_path)
    with pytest.raises(BaselineNotFoundError, match="absent"):
        store.load(*parse_revision(name))


def test_a_name_whose_fit_came_to_nothing_is_not_said_to_be_there(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    store.prepare("early")
    with pytest.raises(BaselineNotFoundError, match=r"no active baseline 'early' .* only \[\];"):
        store.load("early")


@pytest.mark.parametrize(
    "text", ["", "UP", "a b", "x@", "x@y", "../etc", "x@1@2", "x@" + 5000 * "9"]
)
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


def test_a_store_that_fills_up_keeps_what_it_had_and_no_rubbish(
    world: World, tmp_path: Path
) -> None:
    store, first = saved(world, tmp_path)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, unlimited[1]))
    try:
        with pytest.raises(ConfigError, match=r"cannot write the baseline store .* too large"):
            store.save(world.baseline)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert {path.name for path in first.parent.iterdir()} == {"1", "active"}
    assert store.load("tiny").revision == "tiny@1"


def test_an_active_version_that_cannot_be_marked_is_refused(world: World, tmp_path: Path) -> None:
    store, first = saved(world, tmp_path)
    (first.parent / "active").unlink()
    (first.parent / "active").mkdir()
    with pytest.raises(BaselineError, match=r"cannot read .*active: Is a directory"):
        store.save(world.baseline)


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    assert BaselineStore(tmp_path / "none").entries() == ()
