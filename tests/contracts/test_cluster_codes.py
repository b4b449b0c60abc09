"""Laws of codes of active sets with hidden clusters, against dense formulas written out here."""

import itertools
import math
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import mannwhitneyu
from torch import Tensor

from mad.codes.base import SetCode
from mad.codes.sets.clusters import ClusterSums
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.mixture import MixtureCode
from mad.codes.statistics import SetCounts
from tests.contracts.clustered import (
    CODES,
    CONTEXT,
    COUNTS,
    EXPERTS,
    GENERATOR,
    INDEPENDENT,
    INPUTS,
    MIXTURE,
    SAMPLE,
    TRUSTED,
    TRUSTED_SETS,
    two_groups,
)
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import COMPONENTS, EVERY_CONTEXT, EVERY_SET, everywhere, kept


@pytest.fixture(params=CODES)
def code(request: pytest.FixtureRequest) -> SetCode:
    return CODES[request.param]


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_kraft_sum_over_every_set_is_one(code: SetCode, context: int) -> None:
    lengths = code.lengths(EVERY_SET, everywhere(context))
    assert torch.exp2(-lengths).sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_contributions_add_up_to_the_length(code: SetCode, context: int) -> None:
    charged = code.contributions(EVERY_SET, everywhere(context)).sum(dim=1)
    lengths = code.lengths(EVERY_SET, everywhere(context))
    torch.testing.assert_close(charged, lengths, rtol=1e-12, atol=0)


def test_lengths_are_finite_and_not_negative(code: SetCode) -> None:
    for context in EVERY_CONTEXT:
        lengths = code.lengths(EVERY_SET, everywhere(context))
        assert torch.isfinite(lengths).all()
        assert (lengths >= 0).all()


def test_an_input_costs_the_same_alone_and_in_a_batch(code: SetCode) -> None:
    together = code.lengths(TRUSTED, CONTEXT)
    alone = [code.lengths(TRUSTED.row(i), CONTEXT[i : i + 1]) for i in range(INPUTS)]
    assert torch.equal(together, torch.cat(alone))


@settings(max_examples=50, deadline=None)
@given(order=st.permutations(range(60)))
def test_the_order_of_inputs_changes_no_length(order: list[int]) -> None:
    rows = torch.tensor(order)
    for code in CODES.values():
        shuffled = code.lengths(activity_of(TRUSTED_SETS[:60][rows]), CONTEXT[:60][rows])
        assert torch.equal(shuffled, code.lengths(TRUSTED, CONTEXT)[:60][rows])


def test_rates_are_the_chance_of_each_component_over_every_set(code: SetCode) -> None:
    active = torch.tensor(list(itertools.product([0.0, 1.0], repeat=COMPONENTS))).double()
    for context in EVERY_CONTEXT:
        chance = torch.exp2(-code.lengths(EVERY_SET, everywhere(context)))
        rates = code.rates(torch.tensor([context]))[0]
        torch.testing.assert_close(rates, chance @ active, rtol=1e-9, atol=0)


def test_an_empty_set_pays_with_every_component(code: SetCode) -> None:
    nothing = activity_of(torch.zeros(1, COMPONENTS, dtype=torch.bool))
    charged = code.contributions(nothing, torch.tensor([0]))
    assert (charged > 0).all()
    assert charged.sum().item() == pytest.approx(code.lengths(nothing, torch.tensor([0])).item())


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_mixture_lengths_are_the_formula(context: int) -> None:
    row = context if context in (0, 1, 2) else 3
    weight, rate = MIXTURE.weight.numpy()[row], MIXTURE.rate.numpy()
    for place, active in enumerate(itertools.product([0, 1], repeat=COMPONENTS)):
        a = np.array(active)[:, None]
        chance = (weight * np.prod(np.where(a, rate, 1 - rate), axis=0)).sum()
        one = EVERY_SET.row(place)
        bits = MIXTURE.lengths(one, torch.tensor([context])).item()
        assert bits == pytest.approx(-math.log2(chance), rel=1e-12)


def test_mixture_contributions_are_the_posterior_mean_and_a_share_of_the_divergence() -> None:
    weight, rate = MIXTURE.weight.numpy()[1], MIXTURE.rate.numpy()
    charged = MIXTURE.contributions(EVERY_SET, everywhere(1)).numpy()
    for place, active in enumerate(itertools.product([0, 1], repeat=COMPONENTS)):
        a = np.array(active)[:, None]
        chances = np.where(a, rate, 1 - rate)
        joint = weight * chances.prod(axis=0)
        share = joint / joint.sum()
        divergence = (share * np.log2(share / weight)).sum()
        payers = np.array(active) if any(active) else np.ones(COMPONENTS)
        expected = -np.log2(chances) @ share + divergence * payers / payers.sum()
        np.testing.assert_allclose(charged[place], expected, rtol=1e-9, atol=1e-12)


def test_a_step_of_fitting_is_the_formula() -> None:
    sums = MIXTURE.expect(SAMPLE)
    code = MixtureCode.of(sums, COUNTS)
    a = TRUSTED_SETS.numpy()[:, :, None]
    chances = np.where(a, MIXTURE.rate.numpy(), 1 - MIXTURE.rate.numpy()).prod(axis=1)
    joint = MIXTURE.weight.numpy()[CONTEXT.numpy()] * chances
    share = joint / joint.sum(axis=1, keepdims=True)
    overall = (TRUSTED_SETS.sum(dim=0).numpy() + 0.5) / (INPUTS + 1)
    used = (a * share[:, None, :]).sum(axis=0)
    rate = (used + 1.0 * overall[:, None]) / (share.sum(axis=0) + 1.0)
    clusters = share.shape[1]
    anywhere = (share.sum(axis=0) + 0.5) / (INPUTS + 0.5 * clusters)
    given = [share[CONTEXT.numpy() == y].sum(axis=0) + 10 * anywhere for y in range(3)]
    in_context = [row / row.sum() for row in given]
    np.testing.assert_allclose(code.rate, rate, rtol=1e-9)
    np.testing.assert_allclose(code.weight, [*in_context, anywhere], rtol=1e-9)
    assert sums.bits == pytest.approx(-np.log2(joint.sum(axis=1)).sum(), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, INPUTS - 1), min_size=1, max_size=4), st.randoms())
def test_sums_of_shards_merge_in_any_order_to_those_of_all(cuts: list[int], random: Random) -> None:
    edges = [0, *sorted(set(cuts)), INPUTS]
    shards = [
        MIXTURE.expect(kept(TRUSTED_SETS[a:b], CONTEXT[a:b], first_row=a))
        for a, b in itertools.pairwise(edges)
    ]
    random.shuffle(shards)
    merged: ClusterSums = shards[0]
    for shard in shards[1:]:
        merged = merged.merge(shard)
    whole = MIXTURE.expect(SAMPLE)
    torch.testing.assert_close(merged.inputs, whole.inputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.active, whole.active, rtol=1e-12, atol=1e-12)
    assert merged.bits == pytest.approx(whole.bits, rel=1e-12)


def test_a_fit_does_not_depend_on_the_order_of_shards_and_repeats_for_a_seed() -> None:
    first, second = (
        kept(TRUSTED_SETS[:150], CONTEXT[:150]),
        kept(TRUSTED_SETS[150:], CONTEXT[150:], first_row=150),
    )
    for sample in (first.merge(second), second.merge(first), SAMPLE):
        again = MixtureCode.fit(sample, COUNTS)
        assert torch.equal(again.rate, MIXTURE.rate)
        assert torch.equal(again.weight, MIXTURE.weight)


def test_one_context_has_the_weights_of_its_own_cluster() -> None:
    """Where the context says which group it is, naming the cluster is nearly free."""
    sets = two_groups(1_000)
    context = sets[:, 0].long()
    activity, counts = activity_of(sets), SetCounts.of(activity_of(sets), context)
    told = MixtureCode.fit(kept(sets, context), counts)
    untold = MixtureCode.fit(kept(sets, 0 * context), SetCounts.of(activity, 0 * context))
    saved = untold.lengths(activity, 0 * context) - told.lengths(activity, context)
    assert 0.5 < saved.mean().item() < 1.0


def test_held_out_sets_of_two_groups_cost_fewer_bits_than_under_independent_coins() -> None:
    """A group saves three of four components' bits: the fourth of each half follows the first."""
    held_out, context = activity_of(two_groups(1_000)), torch.zeros(1_000, dtype=torch.int64)
    by_cluster = MIXTURE.lengths(held_out, context).mean().item()
    by_coins = INDEPENDENT.lengths(held_out, context).mean().item()
    noise = -(0.05 * math.log2(0.05) + 0.95 * math.log2(0.95))
    assert by_coins == pytest.approx(COMPONENTS, rel=0.02)
    assert by_cluster == pytest.approx(1 + COMPONENTS * noise, rel=0.05)


def area_under_curve(ordinary: Tensor, unusual: Tensor) -> float:
    statistic = mannwhitneyu(unusual.numpy(), ordinary.numpy()).statistic
    return float(statistic) / (len(ordinary) * len(unusual))


def test_unusual_combinations_stand_out_where_independent_coins_see_nothing() -> None:
    context = torch.zeros(1_000, dtype=torch.int64)
    ordinary, unusual = activity_of(two_groups(1_000)), activity_of(two_groups(1_000, mixed=True))
    found = area_under_curve(MIXTURE.lengths(ordinary, context), MIXTURE.lengths(unusual, context))
    chance = area_under_curve(
        INDEPENDENT.lengths(ordinary, context), INDEPENDENT.lengths(unusual, context)
    )
    assert found > 0.98
    assert chance == pytest.approx(0.5, abs=0.05)


def entropy(code: SetCode, context: int) -> float:
    lengths = code.lengths(EVERY_SET, everywhere(context))
    return (torch.exp2(-lengths) * lengths).sum().item()


@pytest.mark.parametrize("context", EVERY_CONTEXT)
@pytest.mark.parametrize("name", ["mixture", "experts"])
def test_typical_bits_are_those_of_a_set_that_also_names_its_cluster(
    name: str, context: int
) -> None:
    """The entropy of set and cluster is that of the set, or above by what the set leaves unsaid."""
    code = MIXTURE if name == "mixture" else EXPERTS
    typical = code.typical(torch.tensor([context]))[0]
    row = context if context in (0, 1, 2) else 3
    weight = code.weight[row]
    choice = -(weight * weight.log2()).sum().item()
    assert (typical > 0).all()
    assert 0 <= typical.sum().item() - entropy(code, context) <= choice


def apart(bias: float) -> MixtureCode:
    """Two clusters, each of one half of the components."""
    first = torch.tensor([bias] * 4 + [1 - bias] * 4, dtype=torch.float64)
    weight = torch.full((2, 2), 0.5, dtype=torch.float64)
    return MixtureCode(torch.tensor([0]), weight, torch.stack([first, 1 - first], dim=1))


def test_typical_bits_are_the_mean_contribution_where_sets_tell_clusters_apart() -> None:
    code = apart(1e-6)
    chance = torch.exp2(-code.lengths(EVERY_SET, everywhere(0))).unsqueeze(1)
    mean = (chance * code.contributions(EVERY_SET, everywhere(0))).sum(dim=0)
    torch.testing.assert_close(code.typical(torch.tensor([0]))[0], mean, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", [MixtureCode, ExpertsCode])
@pytest.mark.parametrize(
    "sets",
    [
        torch.zeros(3, 5, dtype=torch.bool),
        torch.ones(3, 5, dtype=torch.bool),
        torch.tensor([[True]]),
        torch.tensor([[True, False]]).repeat(500, 1),
    ],
)
def test_trusted_sets_that_are_all_alike_still_have_a_code(
    kind: type[MixtureCode] | type[ExpertsCode], sets: Tensor
) -> None:
    context = torch.arange(len(sets)) % 2
    code = kind.fit(kept(sets, context), SetCounts.of(activity_of(sets), context))
    every = activity_of(torch.tensor(list(itertools.product([False, True], repeat=sets.shape[1]))))
    lengths = code.lengths(every, torch.zeros(len(every), dtype=torch.int64))
    assert torch.exp2(-lengths).sum().item() == pytest.approx(1, abs=1e-12)
    assert lengths.min() == code.lengths(activity_of(sets[:1]), torch.tensor([0]))


@pytest.mark.parametrize("clusters", [2, 13, 64])
def test_a_wide_code_charges_sets_of_any_size_the_same_alone_and_in_a_batch(clusters: int) -> None:
    rate = torch.rand(500, clusters, generator=GENERATOR, dtype=torch.float64)
    weight = torch.full((1 + 1, clusters), 1 / clusters, dtype=torch.float64)
    code = MixtureCode(torch.tensor([0]), weight, rate)
    share = torch.rand(300, 1, generator=GENERATOR) ** 3
    sets = activity_of(torch.rand(300, 500, generator=GENERATOR) < share)
    context = torch.arange(300) % 2
    alone = [code.lengths(sets.row(i), context[i : i + 1]) for i in range(300)]
    assert torch.equal(code.lengths(sets, context), torch.cat(alone))


@pytest.mark.parametrize(("inputs", "clusters"), [(30, 2), (100, 5), (400, 20), (2_000, 64)])
def test_there_is_a_cluster_for_every_twenty_sets_from_two_to_sixty_four(
    inputs: int, clusters: int
) -> None:
    sets, context = two_groups(inputs), torch.zeros(inputs, dtype=torch.int64)
    code = MixtureCode.fit(kept(sets, context), SetCounts.of(activity_of(sets), context))
    assert code.rate.shape == (COMPONENTS, clusters)
