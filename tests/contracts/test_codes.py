"""Laws of every code; a new code joins by adding one line to a table."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from mad.codes.base import Code, SetCode
from mad.codes.residual import RELATIVE_RESOLUTION, GaussianCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.statistics import Kept, ResidualMoments, SetCounts
from mad.types import Activity

NUM_COMPONENTS = 6
RATES = torch.tensor([0.5, 0.2, 0.1, 0.02, 0.9, 0.0])


def activity_of(active: Tensor) -> Activity:
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), active.sum(dim=1).cumsum(dim=0)])
    components = active.nonzero()[:, 1]
    return Activity(
        offsets=offsets,
        components=components,
        magnitudes=torch.ones(len(components)),
        residual=torch.zeros(len(active), 1),
        activation=torch.zeros(len(active), 1),
        num_components=active.shape[1],
    )


GENERATOR = torch.Generator().manual_seed(0)
TRUSTED_SETS = torch.rand(200, NUM_COMPONENTS, generator=GENERATOR) < RATES
TRUSTED = activity_of(TRUSTED_SETS)
CONTEXT = torch.randint(3, (200,), generator=GENERATOR)
EVERY_SET = activity_of(torch.tensor(list(itertools.product([False, True], repeat=NUM_COMPONENTS))))
COUNTS = SetCounts.of(TRUSTED, CONTEXT)
SET_CODES: dict[str, SetCode] = {
    "independent": IndependentCode.fit(COUNTS),
    "conditional": ConditionalCode.fit(COUNTS),
}
NEVER_SEEN = 99
EVERY_CONTEXT = [0, 1, 2, NEVER_SEEN, -1]


@pytest.fixture(params=SET_CODES)
def code(request: pytest.FixtureRequest) -> SetCode:
    return SET_CODES[request.param]


def everywhere(context: int) -> Tensor:
    return torch.full((len(EVERY_SET),), context)


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_kraft_sum_of_a_set_code_is_one(code: SetCode, context: int) -> None:
    lengths = code.lengths(EVERY_SET, everywhere(context))
    assert torch.exp2(-lengths).sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("context", EVERY_CONTEXT)
def test_contributions_add_up_to_the_length(code: SetCode, context: int) -> None:
    contributions = code.contributions(EVERY_SET, everywhere(context)).sum(dim=1)
    torch.testing.assert_close(
        contributions, code.lengths(EVERY_SET, everywhere(context)), rtol=1e-9, atol=0
    )


def test_lengths_are_finite_and_not_negative(code: SetCode) -> None:
    lengths = code.lengths(EVERY_SET, everywhere(NEVER_SEEN))
    assert torch.isfinite(lengths).all()
    assert (lengths >= 0).all()


def test_an_input_costs_the_same_alone_and_in_a_batch(code: SetCode) -> None:
    together = code.lengths(TRUSTED, CONTEXT)
    alone = [code.lengths(TRUSTED.row(i), CONTEXT[i : i + 1]) for i in range(len(TRUSTED))]
    assert torch.equal(together, torch.cat(alone))


def test_typical_bits_are_the_mean_contribution_over_every_set(code: SetCode) -> None:
    context = everywhere(1)
    chance = torch.exp2(-code.lengths(EVERY_SET, context)).unsqueeze(1)
    mean = (chance * code.contributions(EVERY_SET, context)).sum(dim=0)
    torch.testing.assert_close(code.typical(context)[0], mean)


def test_a_rarer_set_costs_more(code: SetCode) -> None:
    usual, unusual = [False] * 4 + [True, False], [True] * 6
    lengths = code.lengths(activity_of(torch.tensor([usual, unusual])), torch.tensor([0, 0]))
    assert lengths[1] > lengths[0]


def test_a_component_never_seen_costs_log2_of_twice_the_inputs_plus_two() -> None:
    bits = SET_CODES["independent"].contributions(EVERY_SET, everywhere(0))[-1, 5]
    assert bits.item() == pytest.approx(math.log2(2 * 200 + 2), rel=1e-12)


def test_krichevsky_trofimov_rates_are_the_closed_form() -> None:
    rate = SET_CODES["independent"].rates(torch.tensor([0]))[0]
    expected = (TRUSTED_SETS.sum(dim=0).double() + 0.5) / 201
    torch.testing.assert_close(rate, expected, rtol=1e-15, atol=0)


def test_an_unseen_context_gets_the_rates_over_all_contexts() -> None:
    overall = SET_CODES["independent"].lengths(EVERY_SET, everywhere(0))
    unseen = SET_CODES["conditional"].lengths(EVERY_SET, everywhere(NEVER_SEEN))
    assert torch.equal(unseen, overall)


def test_the_context_makes_its_own_sets_cheaper() -> None:
    """Two contexts with opposite habits: knowing which saves nearly one bit a component."""
    active = torch.zeros(1000, 2, dtype=torch.bool)
    active[:500, 0], active[500:, 1] = True, True
    context = torch.arange(1000) // 500
    counts = SetCounts.of(activity_of(active), context)
    blind = IndependentCode.fit(counts).lengths(activity_of(active), context).mean()
    seeing = ConditionalCode.fit(counts).lengths(activity_of(active), context).mean()
    assert blind.item() == pytest.approx(2, abs=1e-3)
    assert seeing < 0.2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 199), min_size=1, max_size=4))
def test_statistics_of_shards_merge_to_those_of_all(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), 200]
    shards = [
        SetCounts.of(activity_of(TRUSTED_SETS[a:b]), CONTEXT[a:b])
        for a, b in itertools.pairwise(edges)
    ]
    merged = shards[-1]
    for shard in shards[:-1]:
        merged = shard.merge(merged)
    assert torch.equal(merged.contexts, COUNTS.contexts)
    assert torch.equal(merged.inputs, COUNTS.inputs)
    assert torch.equal(merged.active, COUNTS.active)


def residual_activity(residual: Tensor) -> Activity:
    none = torch.zeros(len(residual) + 1, dtype=torch.int64)
    return Activity(none, none[:0], torch.empty(0), residual, residual, 0)


MIXING = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.2, 2.0]])
RESIDUALS = torch.randn(500, 3, generator=GENERATOR) @ MIXING.T + torch.tensor([1.0, -2.0, 0.5])
NO_CONTEXT = torch.full((500,), -1)


def gaussian() -> GaussianCode:
    return GaussianCode.fit(ResidualMoments.of(residual_activity(RESIDUALS)))


def test_the_residual_code_is_squared_mahalanobis_up_to_an_affine_map() -> None:
    code = gaussian()
    covariance = torch.from_numpy(np.cov(RESIDUALS.double().T, bias=True))
    shrink = min(0.5, 3 / 500) + RELATIVE_RESOLUTION**2
    covariance = (1 - shrink) * covariance + shrink * covariance.diagonal().mean() * torch.eye(3)
    inverse = torch.linalg.inv(covariance).numpy()
    mean = RESIDUALS.double().mean(dim=0).numpy()
    squared = torch.tensor([mahalanobis(r, mean, inverse) ** 2 for r in RESIDUALS.double().numpy()])
    lengths = code.lengths(residual_activity(RESIDUALS), NO_CONTEXT)
    torch.testing.assert_close(
        lengths, code.floor_bits + squared / (2 * math.log(2)), rtol=1e-8, atol=0
    )


def test_the_residual_code_sums_to_one_over_its_grid() -> None:
    one = torch.randn(400, 1, generator=GENERATOR)
    code = GaussianCode.fit(ResidualMoments.of(residual_activity(one)))
    step = RELATIVE_RESOLUTION * one.double().std(correction=0).item()
    grid = (torch.arange(-2000, 2001) * step).unsqueeze(1)
    lengths = code.lengths(residual_activity(grid), torch.full((len(grid),), -1))
    assert torch.exp2(-lengths).sum().item() == pytest.approx(1, abs=1e-6)


def test_residual_contributions_add_up_and_are_typical_on_average() -> None:
    code: Code = gaussian()
    contributions = code.contributions(residual_activity(RESIDUALS), NO_CONTEXT)
    lengths = code.lengths(residual_activity(RESIDUALS), NO_CONTEXT)
    torch.testing.assert_close(contributions.sum(dim=1), lengths, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        contributions.mean(dim=0), code.typical(NO_CONTEXT)[0], rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 123.456, 1e8 / 7])
def test_a_constant_residual_still_has_a_code(value: float) -> None:
    code = GaussianCode.fit(ResidualMoments.of(residual_activity(torch.full((300, 2), value))))
    here = torch.full((2, 2), value)
    here[1, 1] += max(1.0, value)
    lengths = code.lengths(residual_activity(here), NO_CONTEXT[:2])
    assert torch.isfinite(lengths).all()
    assert lengths[1] > lengths[0] >= 0


def test_kept_activations_of_shards_merge_in_the_order_of_rows() -> None:
    first = Kept(torch.tensor([1, 4]), torch.tensor([[1.0], [4.0]]))
    second = Kept(torch.tensor([2, 9]), torch.tensor([[2.0], [9.0]]))
    for merged in (first.merge(second), second.merge(first)):
        assert merged.rows.tolist() == [1, 2, 4, 9]
        assert merged.activations.flatten().tolist() == [1.0, 2.0, 4.0, 9.0]


def test_moments_of_shards_merge_to_those_of_all() -> None:
    first, second = residual_activity(RESIDUALS[:123]), residual_activity(RESIDUALS[123:])
    merged = ResidualMoments.of(second).merge(ResidualMoments.of(first))
    whole = ResidualMoments.of(residual_activity(RESIDUALS))
    assert merged.inputs == 500
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-12, atol=1e-12)


def test_a_mean_that_dwarfs_its_spread_leaves_the_code_as_it_was() -> None:
    near = ResidualMoments.of(residual_activity(RESIDUALS.double()))
    shifted = RESIDUALS.double() + 1e8
    first, second = residual_activity(shifted[:123]), residual_activity(shifted[123:])
    far = GaussianCode.fit(ResidualMoments.of(first).merge(ResidualMoments.of(second)))
    assert far.floor_bits == pytest.approx(GaussianCode.fit(near).floor_bits, abs=1e-6)
