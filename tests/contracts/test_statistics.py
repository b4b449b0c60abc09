"""Laws of the sample of trusted active sets that codes are fitted from."""

from random import Random

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from mad.codes.statistics import KeptSets
from mad.types import Activity
from tests.contracts.test_codes import activity_of

SETS = st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=12)


def as_rows(sets: list[set[int]]) -> Tensor:
    return torch.tensor([[one in own for one in range(7)] for own in sets])


def members(kept: KeptSets) -> list[list[int]]:
    return [part.tolist() for part in kept.components.split(kept.offsets.diff().tolist())]


def keep_all(sets: list[set[int]], rows: Tensor) -> KeptSets:
    everyone = torch.ones(len(sets), dtype=torch.bool)
    return KeptSets.of(activity_of(as_rows(sets)), rows % 3, rows=rows, keep=everyone)


@settings(max_examples=100, deadline=None)
@given(SETS, st.data())
def test_only_the_chosen_inputs_are_kept_with_their_rows_contexts_and_components(
    sets: list[set[int]], data: st.DataObject
) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(sets), max_size=len(sets)))
    rows = torch.arange(10, 10 + len(sets))
    kept = KeptSets.of(activity_of(as_rows(sets)), 2 * rows, rows=rows, keep=torch.tensor(keep))
    expected = [place for place, one in enumerate(keep) if one]
    assert len(kept) == len(expected)
    assert kept.rows.tolist() == [10 + place for place in expected]
    assert kept.context.tolist() == [2 * (10 + place) for place in expected]
    assert members(kept) == [sorted(sets[place]) for place in expected]
    owners = [owner for owner, place in enumerate(expected) for _ in sets[place]]
    assert kept.owners.tolist() == owners
    assert kept.num_components == 7


def test_components_are_kept_in_ascending_order_whatever_order_they_came_in() -> None:
    two = Activity(
        offsets=torch.tensor([0, 3, 5]),
        components=torch.tensor([4, 0, 2, 3, 1]),
        magnitudes=torch.ones(5),
        residual=torch.zeros(2, 1),
        activation=torch.zeros(2, 1),
        num_components=5,
    )
    everyone = torch.tensor([True, True])
    kept = KeptSets.of(two, torch.tensor([0, 0]), rows=torch.tensor([0, 1]), keep=everyone)
    assert members(kept) == [[0, 2, 4], [1, 3]]


@settings(max_examples=100, deadline=None)
@given(SETS, st.lists(st.integers(0, 12), max_size=3), st.randoms(use_true_random=False))
def test_samples_of_shards_merge_in_any_order_to_the_sample_of_all(
    sets: list[set[int]], cuts: list[int], random: Random
) -> None:
    """The rows of a shard need not follow those of another."""
    rows = torch.tensor(random.sample(range(100), len(sets))).sort().values
    owner = [random.randrange(len(cuts) + 1) for _ in sets]
    shards = []
    for own in range(len(cuts) + 1):
        places = [place for place, one in enumerate(owner) if one == own]
        if places:
            shards.append(keep_all([sets[place] for place in places], rows[places]))
    random.shuffle(shards)
    merged = shards[0]
    for shard in shards[1:]:
        merged = shard.merge(merged)
    whole = keep_all(sets, rows)
    for name in ("rows", "context", "offsets", "components"):
        assert torch.equal(getattr(merged, name), getattr(whole, name)), name


def test_an_empty_sample_merges_to_the_other() -> None:
    some = keep_all([{1, 2}, set(), {6}], torch.tensor([3, 4, 8]))
    nobody = torch.zeros(2, dtype=torch.bool)
    sets = activity_of(as_rows([{1}, {2}]))
    none = KeptSets.of(sets, torch.tensor([0, 0]), rows=torch.tensor([0, 1]), keep=nobody)
    for merged in (some.merge(none), none.merge(some)):
        assert merged.rows.tolist() == [3, 4, 8]
        assert members(merged) == [[1, 2], [], [6]]
