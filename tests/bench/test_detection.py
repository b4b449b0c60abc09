"""Detection figures against hand values, closed forms and scikit-learn."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from mad.bench.detection import (
    Estimate,
    Tally,
    auroc,
    average_precision,
    estimate,
    recall_at,
    share,
)

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40).map(np.array)


@given(normal=SCORES, anomalous=SCORES)
def test_areas_equal_those_of_scikit_learn_with_ties(
    normal: np.ndarray, anomalous: np.ndarray
) -> None:
    labels = np.repeat([0, 1], [normal.size, anomalous.size])
    scores = np.concatenate([normal, anomalous])
    tally = Tally.of(normal, anomalous)
    assert auroc(tally) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(tally) == pytest.approx(average_precision_score(labels, scores))


def test_a_tie_counts_half() -> None:
    assert auroc(Tally.of(np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0]))) == 5.5 / 6


def test_the_threshold_is_exceeded_by_as_many_ordinary_inputs_as_the_rate_allows() -> None:
    tally = Tally.of(np.arange(100.0), np.array([96.5, 98.0, 98.5, 99.0, 200.0]))
    assert recall_at(tally, rate=0.01) == 3 / 5
    assert recall_at(tally, rate=0.02) == 4 / 5
    assert recall_at(tally, rate=0.0) == 1 / 5


@given(scores=SCORES, rate=st.floats(0, 1))
def test_ties_never_break_the_promised_rate(scores: np.ndarray, rate: float) -> None:
    assert recall_at(Tally.of(scores, scores), rate=rate) <= rate + 1e-9


def one_fit(
    names: tuple[str, ...], normal: np.ndarray, anomalous: np.ndarray, *, seed: int = 0
) -> dict[str, Estimate | None]:
    return estimate(names, normal[None], anomalous[None], seed=seed)


def test_two_infinite_scores_are_a_tie() -> None:
    assert auroc(Tally.of(np.array([0.0, np.inf]), np.array([np.inf]))) == 0.75


def test_a_recall_that_the_ordinary_inputs_cannot_resolve_is_none() -> None:
    names = ("recall_at_fpr_01", "recall_at_fpr_001")
    found = one_fit(names, np.arange(999.0), np.arange(2e3))
    assert found["recall_at_fpr_01"] is not None
    assert found["recall_at_fpr_001"] is None
    enough = one_fit(names, np.arange(1e3), np.arange(2e3))
    assert enough["recall_at_fpr_001"] is not None
    assert enough["recall_at_fpr_001"].value == 1001 / 2000


def test_intervals_of_gaussian_scores_cover_the_true_area_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    truth = norm.cdf(1 / sqrt(2))
    covered = 0
    for seed in range(200):
        normal, anomalous = generator.normal(size=100), generator.normal(1, size=100)
        found = one_fit(("auroc",), normal, anomalous, seed=seed)["auroc"]
        assert found is not None
        covered += found.low <= truth <= found.high
    # Nine in ten would be off by three standard deviations of 200 trials at 95 %.
    assert 0.90 <= covered / 200 <= 0.99


def test_the_interval_of_a_recall_is_as_wide_as_binomial_noise() -> None:
    # Ordinary scores are far below, so that the threshold stays and only the recall is random.
    normal, anomalous = np.zeros(1000), np.repeat([0.0, 1.0], [300, 700])
    found = one_fit(("recall_at_fpr_01",), normal, anomalous)["recall_at_fpr_01"]
    assert found is not None
    assert found.value == 0.7
    assert found.high - found.low == pytest.approx(2 * 1.96 * sqrt(0.7 * 0.3 / 1000), rel=0.15)


def test_the_same_seed_gives_the_same_interval() -> None:
    normal, anomalous = np.arange(50.0), np.arange(25.0, 75.0)
    first, second = (one_fit(("auroc",), normal, anomalous, seed=3) for _ in range(2))
    assert first == second


def test_a_figure_of_several_fits_is_their_mean() -> None:
    # One fit tells all anomalies apart, the other none: inputs are sure, fits are not.
    normal = np.array([np.zeros(200), np.ones(200)])
    anomalous = np.array([np.ones(100), np.zeros(100)])
    found = estimate(("auroc",), normal, anomalous, seed=0)["auroc"]
    assert found == (0.5, 0.0, 1.0)


def test_fits_that_agree_leave_only_the_chance_of_inputs() -> None:
    normal, anomalous = np.arange(300.0), np.arange(150.0, 450.0)
    once = one_fit(("auroc",), normal, anomalous)["auroc"]
    thrice = estimate(("auroc",), np.tile(normal, (3, 1)), np.tile(anomalous, (3, 1)), seed=0)
    assert once is not None
    assert thrice["auroc"] is not None
    assert thrice["auroc"].value == pytest.approx(once.value)
    # Three copies of the same inputs know no more than one.
    width = once.high - once.low
    assert thrice["auroc"].high - thrice["auroc"].low == pytest.approx(width, rel=0.15)


def test_a_share_has_the_interval_of_its_inputs_and_fits() -> None:
    happened = np.zeros((1, 1_000))
    happened[0, :100] = 1
    found = share(happened, seed=0, replicates=2_000)
    assert found.value == 0.1
    assert found.high - found.low == pytest.approx(2 * 1.96 * sqrt(0.1 * 0.9 / 1000), rel=0.1)
    # Two fits that disagree on everything: each is drawn twice in a quarter of the replicates.
    assert share(np.array([np.zeros(9), np.ones(9)]), seed=0) == (0.5, 0.0, 1.0)
