"""Laws of calibration: a p-value is a promise."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest

from mad.calibration.conformal import (
    attainable_rate,
    p_values,
    required_reference,
    threshold,
)
from mad.types import PValues

TRIALS = 3_000
RATES = ("0.001", "0.01", "0.05", "0.1", "0.25")


@pytest.fixture(scope="module", params=[20, 60, 99, 500, 1_999, 5_000])
def simulated(request: pytest.FixtureRequest) -> tuple[int, PValues]:
    """One p-value in each of many worlds, each with a reference of its own."""
    size: int = request.param
    generator = torch.Generator().manual_seed(size)

    def one() -> PValues:
        draw = torch.randn(size + 1, generator=generator, dtype=torch.float64)
        return p_values(draw[:1], draw[1:].sort().values)

    return size, torch.cat([one() for _ in range(TRIALS)])


@pytest.mark.parametrize("rate", RATES)
def test_false_alarms_are_as_many_as_the_ranks_allow(
    simulated: tuple[int, PValues], rate: str
) -> None:
    size, p = simulated
    # Ranks are uniform on 1 .. n + 1 for surprises that do not tie; exact in integers.
    promised = math.floor(Fraction(rate) * (size + 1)) / (size + 1)
    alarms = int((p <= float(rate)).sum())
    assert binomtest(alarms, TRIALS, promised).pvalue > 1e-3
    assert promised <= float(rate)


@pytest.mark.parametrize(("size", "rate"), [(0, 1.0), (99, 0.01), (999, 0.001)])
def test_the_attainable_rate_is_the_smallest_p_value(size: int, rate: float) -> None:
    strange = torch.tensor([math.inf], dtype=torch.float64)
    assert attainable_rate(size) == rate
    assert p_values(strange, torch.zeros(size, dtype=torch.float64)).item() == rate


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
