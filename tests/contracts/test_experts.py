"""The product of experts: its formula, and what it tells apart that a mixture cannot."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mad.codes.sets.clusters import ClusterSums
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.mixture import MixtureCode
from mad.codes.sets.odds import leaning, moved
from mad.codes.statistics import SetCounts
from tests.contracts.clustered import EXPERTS, GENERATOR, INPUTS, TRUSTED, TRUSTED_SETS
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import COMPONENTS, EVERY_CONTEXT, EVERY_SET, everywhere, kept


def dense_experts(context: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights and the rates, one row a component, of the experts in a context."""
    row = context if context in (0, 1, 2) else 3
    log_odds = EXPERTS.odds.numpy()[row][:, None] + EXPERTS.shift.numpy()
    return EXPERTS.weight.numpy()[row], 1 / (1 + np.exp(-log_odds))


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_experts_lengths_and_contributions_are_the_formula(context: int) -> None:
    weight, rate = dense_experts(context)
    lengths = EXPERTS.lengths(EVERY_SET, everywhere(context)).numpy()
    charged = EXPERTS.contributions(EVERY_SET, everywhere(context)).numpy()
    for place, active in enumerate(itertools.product([0, 1], repeat=COMPONENTS)):
        chances = np.where(np.array(active)[:, None], rate, 1 - rate)
        joint = weight * chances.prod(axis=0)
        share = joint / joint.sum()
        divergence = (share * np.log2(share / weight)).sum()
        payers = np.array(active) if any(active) else np.ones(COMPONENTS)
        expected = -np.log2(chances) @ share + divergence * payers / payers.sum()
        assert lengths[place] == pytest.approx(-math.log2(joint.sum()), rel=1e-9)
        np.testing.assert_allclose(charged[place], expected, rtol=1e-9, atol=1e-12)


def habits_and_groups(count: int) -> tuple[Tensor, Tensor]:
    """Draw sets whose first half goes by the context and whose second half by a hidden group."""
    context = torch.randint(8, (count,), generator=GENERATOR)
    habit = (context.unsqueeze(1) >> torch.arange(3)) & 1
    group = torch.randint(8, (count,), generator=GENERATOR)
    together = (group.unsqueeze(1) >> torch.arange(3)) & 1
    sets = torch.cat([habit, habit, together, together], dim=1).bool()
    return sets ^ (torch.rand(count, 12, generator=GENERATOR) < 0.02), context


def test_experts_multiply_contexts_and_clusters_that_a_mixture_must_pair_up() -> None:
    """Eight clusters tell eight groups apart in any context; a mixture needs sixty-four."""
    sets, context = habits_and_groups(2_000)
    sample, counts = kept(sets, context), SetCounts.of(activity_of(sets), context)
    experts = ExpertsCode.fit(sample, counts, clusters=8)
    mixture = MixtureCode.fit(sample, counts, clusters=8)
    held_out, its_context = habits_and_groups(1_000)
    bits = experts.lengths(activity_of(held_out), its_context).mean().item()
    noise = -(0.02 * math.log2(0.02) + 0.98 * math.log2(0.98))
    assert bits == pytest.approx(3 + 12 * noise, abs=1)
    assert mixture.lengths(activity_of(held_out), its_context).mean().item() > bits + 1


def test_contexts_beyond_the_most_frequent_share_the_odds_over_all() -> None:
    context = torch.arange(INPUTS) % 100
    code = ExpertsCode.fit(kept(TRUSTED_SETS, context), SetCounts.of(TRUSTED, context), clusters=2)
    rare, unseen = torch.full((len(EVERY_SET),), 99), everywhere(1_000)
    assert len(code.contexts) == 64
    assert torch.equal(code.lengths(EVERY_SET, rare), code.lengths(EVERY_SET, unseen))


@pytest.mark.parametrize(("informative", "shrinkage"), [(True, 1), (False, 1_000)])
def test_a_context_leans_on_all_as_far_as_leaving_inputs_out_says(
    informative: bool,  # a case of the table
    shrinkage: int,
) -> None:
    """Contexts that decide everything lean least; those that decide nothing lean most."""
    context = torch.arange(400) % 2
    by_chance = torch.rand(400, 30, generator=GENERATOR) < 0.5
    sets = (context == 1).unsqueeze(1).expand(-1, 30) if informative else by_chance
    counts = SetCounts.of(activity_of(sets), context)
    overall = (sets.sum(dim=0).double() + 0.5) / 401
    given = (counts.active.double() + shrinkage * overall) / (200 + shrinkage)
    expected = torch.logit(given) - torch.logit(overall)
    found = leaning(counts, torch.tensor([0, 1]), overall)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_newton_step_is_damped_and_stops_where_uses_are_as_expected() -> None:
    """One cluster, one context: the step leads to the ridge's own fixed point."""
    odds = torch.zeros(2, 1, dtype=torch.float64)
    inputs = torch.tensor([[100.0], [0.0]], dtype=torch.float64)
    used = torch.tensor([[90.0]], dtype=torch.float64)
    shift = torch.zeros(1, 1, dtype=torch.float64)
    first = moved(shift, odds, ClusterSums(inputs, used, 0.0))
    assert first.item() == 1.5
    for _ in range(20):
        shift = moved(shift, odds, ClusterSums(inputs, used, 0.0))
    pulled = 90 - 100 * shift.sigmoid().item() - 0.55 * shift.item()
    assert pulled == pytest.approx(0, abs=1e-9)
