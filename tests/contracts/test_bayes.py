"""The Bayes mixture of codes: its formula, and how little it costs beyond the best."""

import math

import numpy as np
import pytest
import torch

from mad.codes.bayes import BayesCode
from mad.codes.sets.independent import IndependentCode
from tests.contracts.clustered import BAYES, CONTEXT, INDEPENDENT, MIXTURE, TRUSTED, TRUSTED_SETS
from tests.contracts.trusted_sets import EVERY_CONTEXT, EVERY_SET, everywhere


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_a_bayes_mixture_is_the_mean_probability(context: int) -> None:
    each = [member.lengths(EVERY_SET, everywhere(context)) for member in BAYES.members]
    chance = torch.exp2(-torch.stack(each)).mean(dim=0)
    lengths = BAYES.lengths(EVERY_SET, everywhere(context))
    torch.testing.assert_close(lengths, -chance.log2(), rtol=1e-12, atol=0)


def test_a_bayes_mixture_costs_at_most_log2_of_its_members_more_than_the_shortest() -> None:
    for context in EVERY_CONTEXT:
        each = [member.lengths(EVERY_SET, everywhere(context)) for member in BAYES.members]
        shortest = torch.stack(each).min(dim=0).values
        over = BAYES.lengths(EVERY_SET, everywhere(context)) - shortest
        assert over.max().item() <= math.log2(3) + 1e-12


def test_a_weight_bounds_what_a_mixture_costs_beyond_that_code() -> None:
    weighed = BayesCode((MIXTURE, INDEPENDENT), torch.tensor([0.75, 0.25], dtype=torch.float64))
    over = weighed.lengths(TRUSTED, CONTEXT) - MIXTURE.lengths(TRUSTED, CONTEXT)
    assert over.max().item() <= math.log2(4 / 3)


def test_a_bayes_mixture_charges_by_the_posterior_of_its_codes() -> None:
    joint = np.stack([np.exp2(-m.lengths(TRUSTED, CONTEXT).numpy()) for m in BAYES.members]) / 3
    share = joint / joint.sum(axis=0)
    charged = np.stack([m.contributions(TRUSTED, CONTEXT).numpy() for m in BAYES.members])
    divergence = (share * np.log2(3 * share)).sum(axis=0)
    active = TRUSTED_SETS.numpy()
    payers = np.where(active.any(axis=1, keepdims=True), active, True)
    expected = (share[:, :, None] * charged).sum(axis=0) + divergence[:, None] * (
        payers / payers.sum(axis=1, keepdims=True)
    )
    np.testing.assert_allclose(BAYES.contributions(TRUSTED, CONTEXT), expected, rtol=1e-9)


def test_typical_bits_of_a_bayes_mixture_are_those_of_the_code_that_describes_the_typical() -> None:
    """A code whose typical input costs 1,000 bits more has no say."""
    many = 2_000
    rate = torch.full((many,), 0.5, dtype=torch.float64)
    near, far = IndependentCode(rate / 50), IndependentCode(rate)
    typical = BayesCode.of((near, far)).typical(torch.tensor([0]))[0]
    torch.testing.assert_close(typical, near.typical(torch.tensor([0]))[0] + 1 / many)


def test_choosing_among_codes_that_are_alike_is_typically_free() -> None:
    twice = BayesCode.of((INDEPENDENT, INDEPENDENT)).typical(CONTEXT)
    torch.testing.assert_close(twice, INDEPENDENT.typical(CONTEXT), rtol=1e-12, atol=0)
