"""Laws of codes of active sets that are fitted from counts and kept sets."""

import itertools

import pytest
import torch
from hypothesis import given, settings, strategies as st

from mad.codes.base import SetCode
from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.nearest import NearestSetsCode
from mad.codes.sets.size_index import SizeIndexCode
from mad.codes.sets.worst_pair import WorstPairCode
from mad.codes.statistics import KeptSets, SetCounts
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import (
    COMPONENTS,
    CONTEXT,
    COUNTS,
    EVERY_CONTEXT,
    EVERY_SET,
    INPUTS,
    KEPT,
    NEVER_SEEN,
    SETS,
    TRUSTED,
    counts,
    everywhere,
    kept,
)

CODES: dict[str, SetCode] = {
    "tree": TreeCode.fit(KEPT, COUNTS),
    "nearest sets": NearestSetsCode.fit(KEPT, COUNTS),
    "worst pair": WorstPairCode.fit(KEPT, COUNTS),
    "size and index": SizeIndexCode.fit(KEPT, COUNTS),
}


@pytest.fixture(params=CODES)
def code(request: pytest.FixtureRequest) -> SetCode:
    return CODES[request.param]


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_kraft_sum_is_at_most_one(code: SetCode, context: int) -> None:
    total = torch.exp2(-code.lengths(EVERY_SET, everywhere(context))).sum().item()
    assert 0.5 < total <= 1 + 1e-12


@pytest.mark.parametrize("name", ["tree", "nearest sets"])
def test_kraft_sum_is_one_where_no_probability_is_wasted(name: str) -> None:
    total = torch.exp2(-CODES[name].lengths(EVERY_SET, everywhere(0))).sum().item()
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_contributions_add_up_to_the_length(code: SetCode, context: int) -> None:
    contributions = code.contributions(EVERY_SET, everywhere(context)).sum(dim=1)
    torch.testing.assert_close(
        contributions, code.lengths(EVERY_SET, everywhere(context)), rtol=1e-12, atol=1e-12
    )


def test_lengths_are_finite_and_not_negative(code: SetCode) -> None:
    lengths = code.lengths(EVERY_SET, everywhere(NEVER_SEEN))
    assert torch.isfinite(lengths).all()
    assert (lengths >= 0).all()


def test_an_input_costs_the_same_alone_and_in_a_batch(code: SetCode) -> None:
    together = code.lengths(EVERY_SET, everywhere(1))
    alone = [code.lengths(EVERY_SET.row(i), everywhere(1, 1)) for i in range(len(EVERY_SET))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-13, atol=0)


def test_an_empty_batch_has_no_lengths(code: SetCode) -> None:
    nobody = activity_of(torch.zeros(0, COMPONENTS, dtype=torch.bool))
    assert code.lengths(nobody, everywhere(0, 0)).shape == (0,)


def test_rates_are_those_of_krichevsky_and_trofimov(code: SetCode) -> None:
    expected = (SETS.sum(dim=0).double() + 0.5) / (INPUTS + 1)
    torch.testing.assert_close(code.rates(CONTEXT)[5], expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", ["worst pair", "size and index"])
def test_typical_bits_are_the_mean_contributions_of_kept_sets(name: str) -> None:
    mean = CODES[name].contributions(TRUSTED, CONTEXT).mean(dim=0)
    torch.testing.assert_close(CODES[name].typical(CONTEXT)[0], mean)


@pytest.mark.parametrize("kind", [TreeCode, NearestSetsCode, WorstPairCode, SizeIndexCode])
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, INPUTS - 1), min_size=1, max_size=3))
def test_statistics_of_shards_merge_to_the_same_code(kind: type[TreeCode], cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), INPUTS]
    shards: list[tuple[KeptSets, SetCounts]] = [
        (kept(SETS[a:b], CONTEXT[a:b], first_row=a), counts(SETS[a:b], CONTEXT[a:b]))
        for a, b in itertools.pairwise(edges)
    ]
    sample, total = shards[-1]
    for other_sample, other_total in shards[:-1]:
        sample, total = other_sample.merge(sample), total.merge(other_total)
    merged = kind.fit(sample, total).lengths(EVERY_SET, everywhere(0))
    whole = kind.fit(KEPT, COUNTS).lengths(EVERY_SET, everywhere(0))
    assert torch.equal(merged, whole)
