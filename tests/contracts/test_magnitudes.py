"""The code of magnitudes: Student's t on a grid of logarithms, shrunk in two steps."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats
from torch import Tensor

from mad.codes.magnitudes import (
    RELATIVE_RESOLUTION,
    SMALLEST,
    MagnitudeCode,
    MagnitudeMoments,
)
from mad.types import Activity

NEVER_SEEN = 99
KAPPA = 10
GENERATOR = torch.Generator().manual_seed(0)


def activity(magnitudes: Tensor) -> Activity:
    """Return as active whatever is not NaN."""
    active = ~magnitudes.isnan()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), active.sum(dim=1).cumsum(dim=0)])
    nothing = torch.zeros(len(magnitudes), 0)
    entries = (active.nonzero()[:, 1], magnitudes[active])
    return Activity(offsets, *entries, nothing, nothing, magnitudes.shape[1])


def drawn(inputs: int, context: Tensor) -> Tensor:
    """Draw log-normal magnitudes whose median depends on component and context; some silent."""
    noise = 0.7 * torch.randn(inputs, 4, generator=GENERATOR)
    logs = torch.tensor([0.0, 1.0, 2.0, -3.0]) + 0.5 * context.unsqueeze(1) + noise
    used = torch.rand(inputs, 4, generator=GENERATOR) < torch.tensor([0.9, 0.5, 0.05, 0.0])
    return torch.where(used, logs.exp(), torch.nan).double()


CONTEXT = torch.randint(3, (400,), generator=GENERATOR)
VALUES = drawn(400, CONTEXT)
MOMENTS = MagnitudeMoments.of(activity(VALUES), CONTEXT)
CODE = MagnitudeCode.fit(MOMENTS)
POOLED = MagnitudeCode.fit(MOMENTS.over_contexts())


def predictive(logs: Tensor, location: float, variance: float) -> tuple[float, float]:
    """Return mean and variance after KAPPA entries of the prior are added."""
    mean = (logs.sum().item() + KAPPA * location) / (len(logs) + KAPPA)
    squares = (logs - mean).square().sum().item() + KAPPA * variance
    return mean, squares / (len(logs) + KAPPA)


def prior(component: int) -> tuple[float, float]:
    """Return a component's mean and variance over all contexts."""
    every = VALUES[~VALUES.isnan()].log()
    own = VALUES[:, component][~VALUES[:, component].isnan()].log()
    return predictive(own, every.mean().item(), every.var(correction=0).item())


@pytest.mark.parametrize("component", range(4))
@pytest.mark.parametrize("context", [0, 2, NEVER_SEEN])
def test_lengths_are_those_of_students_t_shrunk_to_component_and_all(
    component: int, context: int
) -> None:
    own = VALUES[context == CONTEXT][:, component]
    if context == NEVER_SEEN:
        own = VALUES[:, component]
        mean, variance = prior(component)
    else:
        mean, variance = predictive(own[~own.isnan()].log(), *prior(component))
    freedom = int((~own.isnan()).sum()) + KAPPA
    one = torch.full((1, 4), torch.nan).double()
    one[0, component] = 5.0
    density = stats.t.logpdf(math.log(5), freedom, mean, math.sqrt(variance)) / math.log(2)
    entries = int((~VALUES.isnan()).sum())
    expected = -density - math.log2(RELATIVE_RESOLUTION) - math.log2(1 - 0.5 / (entries + 1))
    length = CODE.lengths(activity(one), torch.tensor([context])).item()
    assert length == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("context", [0, NEVER_SEEN])
@pytest.mark.parametrize("shift", [0.0, 0.3, 0.77])
def test_kraft_sum_over_the_grid_of_both_signs_is_one(context: int, shift: float) -> None:
    logs = (torch.arange(-8000, 8000, dtype=torch.float64) + shift) * RELATIVE_RESOLUTION
    code = MagnitudeCode.fit(_narrow())
    total = 0.0
    for sign in (1, -1):
        grid = torch.full((len(logs), 4), torch.nan).double()
        grid[:, 0] = sign * logs.clamp(-30, 610).exp()
        inside = (logs >= math.log(SMALLEST)) & (logs < 600)
        lengths = code.lengths(activity(grid[inside]), torch.full((int(inside.sum()),), context))
        total += torch.exp2(-lengths).sum().item()
    assert total == pytest.approx(1, abs=1e-9)
    assert total <= 1 + 1e-11


def _narrow() -> MagnitudeMoments:
    """Return moments of equal magnitudes: the scale is at its floor, the worst for the grid."""
    same = torch.tensor([[2.0, torch.nan, torch.nan, torch.nan]]).double().repeat(3, 1)
    return MagnitudeMoments.of(activity(same), torch.zeros(3, dtype=torch.int64))


def test_contributions_add_up_and_silent_components_cost_nothing() -> None:
    contributions = CODE.contributions(activity(VALUES), CONTEXT)
    lengths = CODE.lengths(activity(VALUES), CONTEXT)
    torch.testing.assert_close(contributions.sum(dim=1), lengths, rtol=1e-12, atol=1e-12)
    assert (contributions[VALUES.isnan()] == 0).all()
    assert (contributions >= 0).all()


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-300, 1e-45, 1e300, SMALLEST])
def test_any_magnitude_has_a_finite_length(value: float) -> None:
    one = torch.full((1, 4), value, dtype=torch.float64)
    for context in (0, NEVER_SEEN, -1):
        length = CODE.lengths(activity(one), torch.tensor([context]))
        assert torch.isfinite(length).all()
        assert length.item() > 0


def test_a_code_of_nothing_is_still_a_code() -> None:
    nothing = activity(torch.full((2, 4), torch.nan).double())
    code = MagnitudeCode.fit(MagnitudeMoments.of(nothing, torch.tensor([0, 0])))
    assert code.lengths(nothing, torch.tensor([0, 7])).tolist() == [0.0, 0.0]
    expected = -stats.t.logpdf(math.log(5), KAPPA) / math.log(2) - math.log2(RELATIVE_RESOLUTION)
    one = torch.tensor([[5.0, torch.nan, torch.nan, torch.nan]]).double()
    assert code.lengths(activity(one), torch.tensor([0])).item() == pytest.approx(expected + 1)


def test_an_input_costs_the_same_alone_and_in_a_batch() -> None:
    whole = activity(VALUES)
    alone = [CODE.lengths(whole.row(i), CONTEXT[i : i + 1]) for i in range(len(whole))]
    assert torch.equal(CODE.lengths(whole, CONTEXT), torch.cat(alone))


def test_typical_bits_are_the_entropy_of_the_density_times_the_rate() -> None:
    place, step = (0, 1), RELATIVE_RESOLUTION
    t = stats.t(CODE.freedom[place].item(), scale=CODE.scale[place].item())
    share = CODE.negative_rate
    sign = stats.bernoulli(share).entropy()
    expected = (t.entropy() + sign) / math.log(2) - math.log2(step)
    expected *= CODE.rates(torch.tensor([0]))[0, 1].item()
    assert CODE.typical(torch.tensor([0]))[0, 1].item() == pytest.approx(float(expected))


def test_typical_bits_are_near_the_mean_contribution_of_trusted_inputs() -> None:
    mean = CODE.contributions(activity(VALUES), CONTEXT).mean(dim=0)
    typical = CODE.typical(CONTEXT).mean(dim=0)
    torch.testing.assert_close(typical[:2], mean[:2], rtol=0.05, atol=0)


def test_the_context_shortens_magnitudes_that_depend_on_it() -> None:
    given = CODE.lengths(activity(VALUES), CONTEXT).mean()
    assert given < POOLED.lengths(activity(VALUES), CONTEXT).mean()
    everywhere = [POOLED.lengths(activity(VALUES[:9]), torch.full((9,), c)) for c in (0, 1, -1, 99)]
    assert all(torch.equal(lengths, everywhere[0]) for lengths in everywhere)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 399), min_size=1, max_size=4))
def test_moments_of_shards_merge_to_those_of_all(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), 400]
    shards = [
        MagnitudeMoments.of(activity(VALUES[a:b]), CONTEXT[a:b])
        for a, b in itertools.pairwise(edges)
    ]
    merged = shards[-1]
    for shard in shards[:-1]:
        merged = shard.merge(merged)
    assert torch.equal(merged.counts.active, MOMENTS.counts.active)
    torch.testing.assert_close(merged.mean, MOMENTS.mean, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(merged.squares, MOMENTS.squares, rtol=1e-11, atol=1e-11)


def test_magnitudes_below_zero_are_rare_where_trusted_data_had_none() -> None:
    entries = int((~VALUES.isnan()).sum())
    one = torch.tensor([[5.0, torch.nan, torch.nan, torch.nan]]).double()
    positive = CODE.lengths(activity(one), torch.tensor([0]))
    negative = CODE.lengths(activity(-one), torch.tensor([0]))
    assert (negative - positive).item() == pytest.approx(math.log2(2 * entries + 1))
