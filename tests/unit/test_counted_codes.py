"""Codes from counts of pairs are the codes of the sets that were counted."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.worst_pair import WorstPairCode
from mad.codes.statistics import KeptSets, PairCounts, SetCounts
from mad.components.formats.parameters import harvest
from mad.errors import ConfigError
from mad.fit.counted import fit_counted, load_counts, save_counts
from mad.types import Activity
from tests.contracts.test_codes import activity_of

INPUTS, WIDTH = 400, 12


@pytest.fixture(scope="module")
def activity() -> Activity:
    """Sets in which the odd components follow the even ones before them, mostly."""
    generator = torch.Generator().manual_seed(0)
    active = torch.rand(INPUTS, WIDTH, generator=generator) < 0.2
    follows = torch.rand(INPUTS, WIDTH // 2, generator=generator) < 0.8
    active[:, 1::2] = torch.where(follows, active[:, ::2], active[:, 1::2])
    return activity_of(active)


def kept(activity: Activity) -> tuple[KeptSets, SetCounts]:
    """Return all sets, kept, and how many used each component."""
    context = torch.full((len(activity),), -1)
    rows, keep = torch.arange(len(activity)), torch.ones(len(activity), dtype=torch.bool)
    return (
        KeptSets.of(activity, context, rows=rows, keep=keep),
        SetCounts.of(activity, context),
    )


def test_counts_of_parts_merge_to_those_of_the_whole(activity: Activity) -> None:
    parts = [activity.take(torch.arange(*ends)) for ends in ((0, 150), (150, INPUTS))]
    first, second = map(PairCounts.of, parts)
    whole = PairCounts.of(activity)
    merged = first.merge(second)
    assert merged.inputs == whole.inputs == INPUTS
    assert torch.equal(merged.both, whole.both)


def test_an_independent_code_is_of_the_diagonal(activity: Activity) -> None:
    _, counts = kept(activity)
    found = fit_counted(PairCounts.of(activity), "independent")
    assert isinstance(found, IndependentCode)
    assert torch.equal(found.rate, IndependentCode.fit(counts).rate)


def test_a_tree_of_counts_is_the_tree_of_the_sets(activity: Activity) -> None:
    expected = TreeCode.fit(*kept(activity))
    found = fit_counted(PairCounts.of(activity), "tree")
    assert (expected.parent >= 0).sum() >= WIDTH // 2
    for field in fields(expected):
        assert torch.equal(getattr(found, field.name), getattr(expected, field.name))


def test_the_worst_pair_of_counts_is_that_of_the_sets(activity: Activity) -> None:
    """But for what is usual, which the counts bound."""
    expected = WorstPairCode.fit(*kept(activity))
    found = fit_counted(PairCounts.of(activity), "worst_pair")
    assert isinstance(found, WorstPairCode)
    context = torch.full((INPUTS,), -1)
    assert torch.equal(found.lengths(activity, context), expected.lengths(activity, context))
    assert (found.usual >= expected.usual - 1e-9).all()


def test_mean_bits_need_no_sets(activity: Activity) -> None:
    pairs = PairCounts.of(activity)
    code = TreeCode.counted(pairs)
    lengths = code.lengths(activity, torch.full((INPUTS,), -1))
    assert code.mean_bits(pairs) == pytest.approx(float(lengths.mean()))


@pytest.mark.parametrize("name", ["clusters", "mixture", "experts", "nearest_sets", "size_index"])
def test_what_pairs_do_not_tell_is_refused(activity: Activity, name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}', which needs the sets themselves"):
        fit_counted(PairCounts.of(activity), name)


def test_counts_of_nothing_tell_nothing() -> None:
    with pytest.raises(ConfigError, match="counts of no inputs"):
        fit_counted(PairCounts(0, torch.zeros(2, 2, dtype=torch.int64)), "tree")


def test_counts_survive_their_directory(activity: Activity, tmp_path: Path) -> None:
    save_counts(tmp_path / "counts", {"h.0.mlp": PairCounts.of(activity)})
    (found,) = load_counts(tmp_path / "counts").items()
    assert found[0] == "h.0.mlp"
    assert found[1].inputs == INPUTS
    assert torch.equal(found[1].both, PairCounts.of(activity).both)


def harvested(path: Path, **changes: object) -> Path:
    """Write counts of two layers, of two and one components, as the library does."""
    state: dict[str, Any] = {
        "component_keys": ["b:0", "a:0", "b:1"],
        "count_i": torch.tensor([5, 2, 4]),
        "count_ij": torch.tensor([[5, 1, 3], [1, 2, 0], [3, 0, 4]]),
        "count_total": 10,
    }
    torch.save(state | changes, path)
    return path


def test_a_harvest_is_read_by_layer(tmp_path: Path) -> None:
    found = harvest.read(harvested(tmp_path / "c.pt"), pickles=True)
    assert found["b"].both.tolist() == [[5, 3], [3, 4]]
    assert found["a"].both.tolist() == [[2]]
    assert {one.positions for one in found.values()} == {10}
    assert all(one.is_exact for one in found.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count_total": 4}, "contradict each other"),
        ({"count_i": torch.tensor([5, 2, 3])}, "contradict each other"),
        ({"count_ij": torch.tensor([[5, 3, 3], [3, 2, 0], [3, 0, 4]])}, "contradict each other"),
        ({"count_ij": torch.tensor([[5, 1, 3], [0, 2, 0], [3, 0, 4]])}, "is not symmetric"),
        ({"component_keys": ["b:0", "a:0"]}, r"count_ij \(3, 3\), count_total, and needs"),
        ({"component_keys": ["b:0", "a:0", "b"]}, "'b' is no layer:number"),
        ({"component_keys": ["b:0", "a:0", "b:2"]}, "not numbered from 0"),
        ({"count_total": "many"}, "is no component_correlations.pt"),
    ],
)
def test_a_damaged_harvest_is_refused(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        harvest.read(harvested(tmp_path / "c.pt", **changes), pickles=True)


def test_counts_that_single_precision_lost_are_told(tmp_path: Path) -> None:
    many = harvest.EXACT
    one = {"component_keys": ["a:0"], "count_i": torch.tensor([many]), "count_total": 2 * many}
    path = harvested(tmp_path / "c.pt", **one, count_ij=torch.tensor([[many]]))
    assert not harvest.read(path, pickles=True)["a"].is_exact
