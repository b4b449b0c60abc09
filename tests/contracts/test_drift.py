"""Drift of components: a closed form, and next to nothing by chance."""

import math

import numpy as np
import pytest

from mad.calibration.drift import refitted_bits
from mad.calibration.health import binomial_interval, binomial_intervals, largest_gap
from mad.service.observed import sampled_bits


def test_one_coin_saves_its_divergence_less_the_price_of_its_rate() -> None:
    observed, trusted = np.array([0.5, 0.1, 0.3, 0.2]), np.array([0.25, 0.1, 0.3, 0.2])
    divergence = 0.5 * math.log2(0.5 / 0.25) + 0.5 * math.log2(0.5 / 0.75)
    known_from = 1 / (1 / 1000 + 1 / 3000)
    price = (2 + math.log2(known_from) / 2) / known_from
    saved = refitted_bits(observed, trusted, inputs=1000, trusted_inputs=3000)
    assert saved == pytest.approx(divergence - price)


def test_no_inputs_have_not_drifted() -> None:
    assert refitted_bits(np.zeros(3), np.full(3, 0.5), inputs=0, trusted_inputs=10) == 0


@pytest.mark.parametrize("inputs", [50, 1000, 20_000])
def test_thousands_of_components_drift_by_chance_next_to_nothing(inputs: int) -> None:
    rng = np.random.default_rng(1)
    rates = rng.uniform(0.0005, 0.1, size=4096)
    trusted = (rng.binomial(3600, rates) + 0.5) / 3601
    observed = rng.binomial(inputs, rates) / inputs
    by_chance = refitted_bits(observed, trusted, inputs=inputs, trusted_inputs=3600)
    rates[:40] += 0.3
    moved = rng.binomial(inputs, rates) / inputs
    assert by_chance < 0.1
    assert refitted_bits(moved, trusted, inputs=inputs, trusted_inputs=3600) > 3


def test_intervals_of_several_rates_are_those_of_each() -> None:
    found = binomial_intervals(np.array([0, 3, 40]), 40)
    assert found == pytest.approx(np.array([binomial_interval(n, 40) for n in (0, 3, 40)]))
    assert binomial_intervals(np.array([0]), 0).tolist() == [[0, 1]]


def test_the_largest_gap_is_the_two_samples_statistic() -> None:
    ours, theirs = sampled_bits([0.9, 0.5, 0.1]).sort().values, sampled_bits([0.8, 0.4])
    # Below 0.9 and 0.8 there is a third and a half, below 0.5 two thirds and a half of each.
    assert largest_gap(ours, theirs.sort().values) == pytest.approx(1 / 3)
    assert largest_gap(ours, ours) == 0
    assert largest_gap(ours[:0], theirs) == 0
