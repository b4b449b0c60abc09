"""Paired differences: intervals as in tables of Wilcoxon's test, and as sure as they say."""

import numpy as np
import pytest
from scipy import stats

from mad.bench.paired import quantile_shift, shift


@pytest.mark.parametrize(("pairs", "critical"), [(6, 0), (8, 3), (10, 8), (12, 13), (20, 52)])
def test_the_interval_ends_where_tables_have_the_critical_rank_sum(
    pairs: int, critical: int
) -> None:
    # Wilcoxon (1945), two-sided 5 %. Differences of powers of two, so that no two means tie.
    differences = [2.0**n for n in range(pairs)]
    means = sorted((a + b) / 2 for i, a in enumerate(differences) for b in differences[i:])
    found = shift(differences)
    assert (found.low, found.high) == (means[critical], means[-1 - critical])
    assert found.is_told_apart


def test_scipy_rejects_no_difference_where_the_interval_leaves_it_out() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        differences = rng.normal(0.4, 1.0, size=14).tolist()
        rejected = stats.wilcoxon(differences, method="exact").pvalue <= 0.05
        assert shift(differences).is_told_apart == rejected


def test_few_pairs_tell_nothing() -> None:
    found = shift([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.middle == 3.0


def test_the_bootstrap_of_a_quantile_is_as_wide_as_theory_has_it() -> None:
    rng = np.random.default_rng(0)
    these, those = ([rng.exponential(size=100) for _ in range(40)] for _ in range(2))
    found = quantile_shift(these, those, quantile=0.9, chance=rng)
    # A quantile q of n values has the variance q (1 - q) / (n f^2), f = 1 - q for exponentials.
    wide = 2 * 1.96 * (2 * 0.9 / 0.1 / 4_000) ** 0.5
    assert found.high - found.low == pytest.approx(wide, rel=0.25)
    assert not found.is_told_apart
    shifted = quantile_shift([one + 0.5 for one in these], those, quantile=0.9, chance=rng)
    assert shifted.is_told_apart
    assert shifted.middle == pytest.approx(found.middle + 0.5)
