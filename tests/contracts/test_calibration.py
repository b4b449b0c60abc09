"""Laws of calibration: a p-value is a promise."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest

from mad.calibration.conformal import p_values, required_reference, threshold
from mad.calibration.health import binomial_interval, promised_interval
from mad.errors import InputError


@pytest.mark.parametrize("size", [20, 100, 999])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25])
def test_false_alarms_stay_at_or_below_alpha(size: int, alpha: float) -> None:
    generator = torch.Generator().manual_seed(size)
    draws = torch.randn(4000, size + 1, generator=generator, dtype=torch.float64)
    p = torch.cat([p_values(row[:1], row[1:].sort().values) for row in draws])
    alarms = int((p <= alpha).sum())
    assert binomtest(alarms, 4000, alpha, alternative="greater").pvalue > 1e-3


def test_ties_are_counted_against_the_input_so_that_discrete_surprise_is_safe() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(3, (4000, 51), generator=generator).double()
    p = torch.cat([p_values(row[:1], row[1:].sort().values) for row in draws])
    for alpha in (0.1, 0.3, 0.5):
        alarms = int((p <= alpha).sum())
        assert binomtest(alarms, 4000, alpha, alternative="greater").pvalue > 1e-3


def test_the_rank_among_four_is_the_closed_form() -> None:
    reference = torch.tensor([1.0, 2.0, 2.0, 5.0], dtype=torch.float64)
    surprise = torch.tensor([0.0, 2.0, 4.0, 5.0, 6.0, math.inf], dtype=torch.float64)
    expected = torch.tensor([5, 4, 2, 2, 1, 1], dtype=torch.float64) / 5
    assert torch.equal(p_values(surprise, reference), expected)


def test_more_surprise_is_never_more_probable() -> None:
    reference = torch.randn(50, dtype=torch.float64).sort().values
    p = p_values(torch.linspace(-3, 3, 99, dtype=torch.float64), reference)
    assert (p.diff() <= 0).all()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.floats(0.001, 0.6),
    st.integers(-1, 10),
)
def test_exceeding_the_threshold_is_the_same_as_a_small_p_value(
    surprises: list[int], rate: float, surprise: int
) -> None:
    reference = torch.tensor(surprises, dtype=torch.float64).sort().values
    p = p_values(torch.tensor([float(surprise)], dtype=torch.float64), reference).item()
    assert (surprise > threshold(reference, rate)) == (p <= rate)


@pytest.mark.parametrize(
    ("rate", "size"), [(0.5, 1), (0.1, 9), (1 / 49, 48), (0.01, 99), (0.001, 999)]
)
def test_the_smallest_reference_for_a_rate(rate: float, size: int) -> None:
    assert required_reference(rate) == size
    strange = torch.tensor([math.inf], dtype=torch.float64)
    assert p_values(strange, torch.zeros(size, dtype=torch.float64)).item() <= rate
    assert p_values(strange, torch.zeros(size - 1, dtype=torch.float64)).item() > rate


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 200), (0, 0)])
def test_the_interval_is_scipys_exact_one(successes: int, trials: int) -> None:
    if trials == 0:
        assert binomial_interval(0, 0) == (0.0, 1.0)
        return
    expected = binomtest(successes, trials).proportion_ci(0.99, method="exact")
    assert binomial_interval(successes, trials) == pytest.approx((expected.low, expected.high))


def test_more_successes_than_trials_is_refused() -> None:
    with pytest.raises(InputError, match="3 successes in 2 trials"):
        binomial_interval(3, 2)


def test_one_rank_of_a_reference_promises_what_the_smallest_of_uniforms_does() -> None:
    # P(smallest of 99 uniforms <= x) = 1 - (1 - x) ** 99.
    expected = (1 - 0.995 ** (1 / 99), 1 - 0.005 ** (1 / 99))
    assert promised_interval(0.01, 99) == pytest.approx(expected, rel=1e-9)


def test_a_reference_too_small_for_the_rate_never_alarms() -> None:
    assert promised_interval(0.01, 98) == (0.0, 0.0)
