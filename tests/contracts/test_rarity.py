"""Laws of rarity bits: how rare a length is, whatever its scale."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from jaxtyping import Float64
from torch import Tensor

from mad.calibration.rarity import MAX_KNOTS, Rarity
from mad.errors import ConfigError

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=80)


def column(lengths: list[float]) -> Float64[Tensor, "batch part"]:
    return torch.tensor(lengths, dtype=torch.float64).unsqueeze(1)


def exponential(inputs: int, *, seed: int = 0) -> Float64[Tensor, "reference part"]:
    generator = torch.Generator().manual_seed(seed)
    return -torch.rand(inputs, 1, generator=generator, dtype=torch.float64).log()


@settings(max_examples=200, deadline=None)
@given(COUNTS)
def test_up_to_the_last_knot_rarity_is_the_count_of_inputs_that_cost_as_much(
    trusted: list[int],
) -> None:
    rarity = Rarity.fit(column([float(length) for length in trusted]))
    for length in {length for length in trusted if length <= rarity.knots[0, -1]}:
        share = (sum(other >= length for other in trusted) + 1) / (len(trusted) + 1)
        assert rarity.bits(column([float(length)])).item() == pytest.approx(-math.log2(share))


@settings(max_examples=200, deadline=None)
@given(COUNTS, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_rarity_is_the_same_in_any_unit(trusted: list[int], unit: float, zero: float) -> None:
    reference = column([float(length) for length in trusted])
    if reference.std(correction=0) == 0:
        return  # A constant has no unit.
    wanted = torch.linspace(-1, 20, 50, dtype=torch.float64).unsqueeze(1)
    # The units are kept from rounding a length across a tie.
    unit, zero = 2.0 ** round(math.log2(unit)), float(round(zero))
    found = Rarity.fit(reference * unit + zero).bits(wanted * unit + zero)
    torch.testing.assert_close(found, Rarity.fit(reference).bits(wanted), rtol=1e-6, atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(COUNTS)
def test_more_length_is_never_less_rare_and_above_the_last_knot_always_rarer(
    trusted: list[int],
) -> None:
    rarity = Rarity.fit(column([float(length) for length in trusted]))
    bits = rarity.bits(torch.linspace(-2, 40, 421, dtype=torch.float64).unsqueeze(1)).squeeze(1)
    assert (bits.diff() >= 0).all()
    assert torch.isfinite(bits).all()
    last = float(rarity.knots[0, -1])
    beyond = rarity.bits(torch.linspace(last, last + 50, 400, dtype=torch.float64).unsqueeze(1))
    assert (beyond.diff(dim=0) > 0).all()


@settings(max_examples=200, deadline=None)
@given(COUNTS)
def test_the_curve_has_no_jump(trusted: list[int]) -> None:
    rarity = Rarity.fit(column([float(length) for length in trusted]))
    knots = rarity.knots[0].unsqueeze(1)
    step = rarity.bits(knots + 1e-9) - rarity.bits(knots - 1e-9)
    assert step.abs().max() < 1e-5


@settings(max_examples=100, deadline=None)
@given(COUNTS, st.floats(-5, 11.999))
def test_between_trusted_lengths_no_more_is_claimed_than_was_counted(
    trusted: list[int], length: float
) -> None:
    rarity = Rarity.fit(column([float(length) for length in trusted]))
    if length > rarity.knots[0, -1]:
        return
    share = (sum(other >= length for other in trusted) + 1) / (len(trusted) + 1)
    assert rarity.bits(column([length])).item() <= -math.log2(share) + 1e-12


@pytest.mark.parametrize(("inputs", "within"), [(499, 0.5), (5_000, 0.2), (200_000, 0.04)])
def test_exponential_lengths_are_as_rare_as_they_are(inputs: int, within: float) -> None:
    # P(length >= l) = exp(-l), so rarity is l / ln 2, also far beyond what was counted. The slope
    # comes from 9, 99 and 3,999 excesses: its relative error is one over the root of that.
    truth = torch.tensor([[2.0], [5.0], [10.0], [40.0]], dtype=torch.float64)
    found = Rarity.fit(exponential(inputs)).bits(truth)
    torch.testing.assert_close(found, truth / math.log(2), rtol=within, atol=0)


@pytest.mark.parametrize("inputs", [20, 100, 499, 2_000])
def test_the_tail_is_unbiased_for_exponential_lengths(inputs: int) -> None:
    # The mean excess of an exponential is its mean, 1, wherever the tail starts.
    columns = torch.cat([exponential(inputs, seed=seed) for seed in range(400)], dim=1)
    scale = Rarity.fit(columns).scale
    error = 4 * scale.std() / math.sqrt(400)
    assert abs(float(scale.mean()) - 1) < float(error)


def test_lengths_that_do_not_tie_are_typically_one_over_ln_2_bits_rare() -> None:
    # The mean of -log2 of a uniform number.
    assert Rarity.fit(exponential(20_000)).typical.item() == pytest.approx(
        1 / math.log(2), abs=0.01
    )


@pytest.mark.parametrize("inputs", [MAX_KNOTS + 1, 60_000])
@pytest.mark.parametrize("levels", [7, 1_000_000])
def test_few_knots_of_many_inputs_are_as_good_as_all_to_three_thousandths_of_a_bit(
    inputs: int, levels: int
) -> None:
    reference = (exponential(inputs) * levels).floor() / levels
    rarity = Rarity.fit(reference)
    assert rarity.knots.shape == (1, min(MAX_KNOTS, inputs))
    trusted = reference.squeeze(1).sort().values
    inside = trusted[trusted <= rarity.knots[0, -1]]
    at_least = inputs - torch.searchsorted(trusted, inside)
    counted = -((at_least + 1).double() / (inputs + 1)).log2()
    error = (rarity.bits(inside.unsqueeze(1)).squeeze(1) - counted).abs().max()
    assert error <= 0.003


# Of 6,484 and 12,968 two ways to take the logarithm differ in the last digit.
@pytest.mark.parametrize("inputs", [1, 20, MAX_KNOTS + 1, 6_483, 12_967])
def test_what_costs_less_than_any_trusted_input_is_not_rare(inputs: int) -> None:
    rarity = Rarity.fit(exponential(inputs) + 1)
    assert rarity.bits(column([-100.0, 0.0, 1.0])).squeeze(1).tolist() == [0.0, 0.0, 0.0]
    assert (rarity.knots.diff() >= 0).all()


def test_what_never_varied_is_charged_a_bit_for_every_bit_above_it() -> None:
    rarity = Rarity.fit(torch.full((50, 1), 7.0, dtype=torch.float64))
    found = rarity.bits(column([-9.0, 7.0, 8.0, 21.0])).squeeze(1)
    assert found.tolist() == pytest.approx([0.0, 0.0, 1.0, 14.0])


def test_one_odd_input_among_constants_does_not_make_a_cliff() -> None:
    reference = torch.full((2_000, 1), 7.0, dtype=torch.float64)
    reference[0] = 17.0
    bits = Rarity.fit(reference).bits(column([7.0, 17.0, 27.0])).squeeze(1)
    # The odd one is as rare as 2 in 2,001; as far again costs tens of bits, not thousands.
    assert bits[:2].tolist() == pytest.approx([0.0, math.log2(2_001 / 2)])
    assert bits[1] + 10 < bits[2] < 100


def test_infinite_lengths_are_infinitely_rare_and_count_as_the_largest_in_trusted_data() -> None:
    reference = exponential(100)
    reference[3] = torch.inf
    bits = Rarity.fit(reference).bits(column([1.0, math.inf])).squeeze(1)
    assert torch.isfinite(bits[0])
    assert bits[1] == math.inf
    largest = exponential(100)
    largest[3] = reference[torch.isfinite(reference)].max()
    assert torch.equal(Rarity.fit(reference).knots, Rarity.fit(largest).knots)


def test_parts_do_not_see_one_another() -> None:
    first, second = exponential(300), exponential(300, seed=1) * 40
    wanted = torch.rand(9, 2, dtype=torch.float64) * torch.tensor([5.0, 200.0])
    both = Rarity.fit(torch.cat([first, second], dim=1)).bits(wanted.double())
    alone = [Rarity.fit(first).bits(wanted[:, :1]), Rarity.fit(second).bits(wanted[:, 1:])]
    assert torch.equal(both, torch.cat(alone, dim=1))


def test_an_input_has_the_same_rarity_alone_and_in_a_batch() -> None:
    rarity = Rarity.fit(exponential(300))
    wanted = exponential(50, seed=1) * 3
    assert torch.equal(rarity.bits(wanted)[7:8], rarity.bits(wanted[7:8]))


def test_no_trusted_input_and_no_finite_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="given none"):
        Rarity.fit(torch.zeros(0, 2, dtype=torch.float64))
    broken = torch.zeros(5, 2, dtype=torch.float64)
    broken[:, 1] = torch.inf
    with pytest.raises(ConfigError, match="part 1 costs infinitely many bits on every one of 5"):
        Rarity.fit(broken)
