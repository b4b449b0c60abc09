"""Laws of stream alarms: what an ordinary stream may do, and how rarely."""

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jaxtyping import Float64
from scipy.integrate import quad
from scipy.stats import binom, binomtest, kstest

from mad.streams.bets import CELLS, RATES, SHAPES, log_e_values
from mad.streams.bounds import BoundedPValues
from mad.streams.detector import ChangeDetector
from mad.streams.martingale import MixtureMartingale
from mad.streams.ranks import Places, fixed, transductive

GRID = [(rate, shape) for rate in RATES for shape in SHAPES]
LIKELY = st.floats(1e-12, 1.0)


def mean_over_uniform(payment: Callable[[Float64[np.ndarray, " batch"]], float]) -> float:
    """Integrate over p = exp(-x), which has no singularity; the tail left out is below 1e-15."""
    return float(quad(lambda x: payment(np.exp([-x])) * math.exp(-x), 0, 700, limit=500)[0])


@pytest.mark.parametrize("cell", range(CELLS))
def test_a_bet_on_a_uniform_p_value_is_fair(cell: int) -> None:
    mean = mean_over_uniform(lambda p: math.exp(log_e_values(p)[0, cell]))
    assert mean == pytest.approx(1, abs=1e-8)


def test_a_larger_p_value_never_pays_more() -> None:
    assert (np.diff(log_e_values(np.geomspace(1e-300, 1, 500)), axis=0) <= 0).all()


def test_the_bets_pay_the_closed_form() -> None:
    paid = np.exp(log_e_values(np.array([0.02]))[0])
    assert paid == pytest.approx([1 - a + a * k * 0.02 ** (k - 1) for a, k in GRID])


@settings(max_examples=50, deadline=None)
@given(st.lists(LIKELY, min_size=1, max_size=12))
def test_wealth_is_the_mean_over_bets_and_times_of_change(p: list[float]) -> None:
    _, wealth = MixtureMartingale.start().advance(np.array(p))
    last, total = len(p), 1 / (2 * len(p))
    for rate, shape in GRID:
        paid = [1 - rate + rate * shape * each ** (shape - 1) for each in p]
        for change in range(1, last + 1):
            stake = 0.5 if change == 1 else 1 / (2 * (change - 1)) - 1 / (2 * change)
            total += stake * math.prod(paid[change - 1 :]) / CELLS
    assert wealth[-1] == pytest.approx(math.log2(total), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(LIKELY, min_size=1, max_size=12))
def test_change_evidence_is_the_shiryaev_roberts_recursion(p: list[float]) -> None:
    _, evidence = ChangeDetector.start().advance(np.array(p))
    sums = dict.fromkeys(GRID, 0.0)
    for each in p:
        for (rate, shape), before in sums.items():
            paid = 1 - rate + rate * shape * each ** (shape - 1)
            sums[rate, shape] = (1 + before) * paid
    expected = math.log2(1 + sum(sums.values()) / CELLS)
    assert evidence[-1] == pytest.approx(expected, abs=1e-9)


def test_the_next_uniform_p_value_keeps_wealth_the_same_on_average() -> None:
    gambler, _ = MixtureMartingale.start().advance(np.array([0.3, 0.001, 0.9]))
    mean = mean_over_uniform(lambda p: 2.0 ** float(gambler.advance(p)[1][0]))
    assert mean == pytest.approx(2.0**gambler.bits, rel=1e-6)


def test_the_next_uniform_p_value_adds_one_to_the_change_evidence_on_average() -> None:
    detector, _ = ChangeDetector.start().advance(np.array([0.3, 0.001, 0.9]))
    mean = mean_over_uniform(lambda p: 2.0 ** float(detector.advance(p)[1][0]))
    assert mean == pytest.approx(2.0**detector.bits + 1, rel=1e-6)


def test_ordinary_streams_reach_the_thresholds_as_rarely_as_promised() -> None:
    chance = np.random.default_rng(0)
    rich = early = 0
    for _ in range(600):
        p = 1 - chance.random(200)
        rich += MixtureMartingale.start().advance(p)[1].max() >= MixtureMartingale.threshold_bits(
            0.1
        )
        early += ChangeDetector.start().advance(p)[1].max() >= ChangeDetector.threshold_bits(1000)
    assert binomtest(rich, 600, 0.1, alternative="greater").pvalue > 1e-3
    assert binomtest(early, 600, 200 / 1000, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("start", [MixtureMartingale.start, ChangeDetector.start])
@pytest.mark.parametrize("cut", [0, 1, 7, 40])
def test_inputs_may_come_in_any_batches(
    start: Callable[[], MixtureMartingale | ChangeDetector], cut: int
) -> None:
    p = 1 - np.random.default_rng(1).random(40) ** 3
    _, whole = start().advance(p)
    first, early = start().advance(p[:cut])
    second, late = first.advance(p[cut:])
    assert np.concatenate([early, late]) == pytest.approx(whole, abs=1e-9)
    assert second.bits == pytest.approx(whole[-1], abs=1e-9)


@pytest.mark.parametrize("start", [MixtureMartingale.start, ChangeDetector.start])
def test_evidence_never_overflows(
    start: Callable[[], MixtureMartingale | ChangeDetector],
) -> None:
    state = start()
    for p in (5e-324, 1.0, 5e-324):
        state, evidence = state.advance(np.full(2000, p))
        assert np.isfinite(evidence).all()
    assert state.bits > 1e5


@pytest.mark.parametrize("values", [(0, 1, 2, 3, 4), (0, 0, 1, 1, 2), (0, 1, 1, 1, 1)])
@pytest.mark.parametrize("most", [1, 2, 9])
def test_ranks_of_exchangeable_inputs_are_uniform_and_independent(
    values: tuple[int, ...], most: int
) -> None:
    # Ties spread each p-value evenly over an interval; over all orders the intervals must add up
    # to the same mass in every cell of the square, for cells that cut no interval's multiple.
    mass = np.zeros((4, 5))
    orders = list(permutations(values))
    for order in orders:
        reference = Places.of(np.sort(np.array(order[:3], dtype=float)), most=most)
        found = reference.find(np.array(order[3:], dtype=float))
        low = transductive(found, reference.reference, np.zeros(2)).p
        high = transductive(found, reference.reference, np.ones(2)).p
        mass += np.outer(*(shares(low[i], high[i], cells) for i, cells in ((0, 4), (1, 5))))
    assert mass == pytest.approx(np.full((4, 5), len(orders) / 20))


def shares(low: float, high: float, cells: int) -> Float64[np.ndarray, " cell"]:
    """Return how much of an interval lies in each of some equal cells of the unit interval."""
    edges = np.clip(np.arange(cells + 1) / cells, low, high)
    return np.diff(edges) / (high - low)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_ranks_count_what_came_before(reference: list[int], stream: list[int]) -> None:
    known = sorted({*range(6), *reference})
    ties = 1 - np.random.default_rng(0).random(len(stream))
    places = Places.of(np.array(known, dtype=float))
    ranked = transductive(places.find(np.array(stream, dtype=float)), places.reference, ties)
    for number, (surprise, tie) in enumerate(zip(stream, ties, strict=True)):
        before = known + stream[:number]
        larger = sum(other > surprise for other in before)
        expected = (larger + tie * (before.count(surprise) + 1)) / (len(before) + 1)
        assert ranked.p[number] == pytest.approx(expected)


def test_fixed_ranks_count_the_reference_alone() -> None:
    places = Places.of(np.array([1.0, 2.0, 2.0, 5.0]))
    found = places.find(np.array([0.0, 2.0, 4.0, 9.0, math.inf]))
    p = fixed(found, places.reference, np.ones(5))
    assert p == pytest.approx(np.array([5, 4, 2, 1, 1]) / 5)


def test_a_long_stream_ranked_among_few_kept_values_stays_uniform_and_small() -> None:
    chance = np.random.default_rng(3)
    places = Places.of(np.sort(chance.standard_normal(5000)), most=40)
    found = places.find(chance.standard_normal(20_000))
    ranked = transductive(found, places.reference, 1 - chance.random(20_000))
    assert kstest(ranked.p, "uniform").pvalue > 1e-3
    assert kstest(ranked.p[:-1] - ranked.p[1:] + 1, "triang", (0.5, 0, 2)).pvalue > 1e-3
    assert ranked.counts.size <= 81
    assert ranked.counts.sum() == 25_000


@pytest.mark.parametrize("size", [1, 2, 50, 5000])
def test_a_bound_is_where_so_few_of_the_reference_become_unlikely(size: int) -> None:
    bounded = BoundedPValues.of(np.arange(float(size)), delta=0.005)
    kept, bounds = bounded.ranks[:-1], bounded.bounds[:-1]
    assert binom.cdf(kept, size, bounds) == pytest.approx(np.full(kept.size, 0.005 / kept.size))
    assert bounded.bounds[-1] == 1
    assert (np.diff(bounded.bounds) > 0).all()


def test_bounded_p_values_are_valid_given_all_but_a_few_references() -> None:
    chance = np.random.default_rng(4)
    broken = 0
    for _ in range(1000):
        reference = np.sort(chance.random(300))
        bounded = BoundedPValues.of(reference, delta=0.1)
        # An input has a p-value of at most the bound when it exceeds this reference value.
        exceeded = reference[-1 - bounded.ranks[:-1]]
        broken += bool((1 - exceeded > bounded.bounds[:-1]).any())
    assert binomtest(broken, 1000, 0.1, alternative="greater").pvalue > 1e-3


def test_bounded_p_values_count_ties_against_the_input_and_round_up() -> None:
    reference = np.sort(np.random.default_rng(5).integers(0, 30, 400).astype(float))
    bounded = BoundedPValues.of(reference, delta=0.01)
    surprise = np.arange(-1.0, 32.0)
    p = bounded.of_inputs(surprise)
    assert (np.diff(p) <= 0).all()
    for value, bound in zip(surprise, p, strict=True):
        at_least = int((reference >= value).sum())
        assert bound == bounded.bounds[bounded.ranks >= at_least].min()
        assert bound >= (at_least + 1) / 401 or bound == 1
