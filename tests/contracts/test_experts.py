"""The product of experts: its formula, and what it tells apart that a mixture cannot."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.mixture import MixtureCode
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
