"""Detection figures against hand values, closed forms and scikit-learn."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from mad.bench.detection import Tally, auroc, average_precision, estimate, recall_at

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


def test_a_recall_that_the_ordinary_inputs_cannot_resolve_is_none() -> None:
    generator = np.random.default_rng(0)
    names = ("recall_at_fpr_01", "recall_at_fpr_001")
    found = estimate(names, np.arange(999.0), np.arange(2e3), generator=generator)
    assert found["recall_at_fpr_01"] is not None
    assert found["recall_at_fpr_001"] is None
    enough = estimate(names, np.arange(1e3), np.arange(2e3), generator=generator)
    assert enough["recall_at_fpr_001"] is not None
    assert enough["recall_at_fpr_001"].value == 1001 / 2000


def test_intervals_of_gaussian_scores_cover_the_true_area_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    truth = norm.cdf(1 / sqrt(2))
    covered = 0
    for _ in range(200):
        found = estimate(
            ("auroc",),
            generator.normal(size=100),
            generator.normal(1, size=100),
            generator=generator,
            replicates=300,
        )["auroc"]
        assert found is not None
        covered += found.low <= truth <= found.high
    # Nine in ten would be off by three standard deviations of 200 trials at 95 %.
    assert 0.90 <= covered / 200 <= 0.99


def test_the_interval_of_a_recall_is_as_wide_as_binomial_noise() -> None:
    # Ordinary scores are far below, so that the threshold stays and only the recall is random.
    normal, anomalous = np.zeros(1000), np.repeat([0.0, 1.0], [300, 700])
    found = estimate(("recall_at_fpr_01",), normal, anomalous, generator=np.random.default_rng(2))[
        "recall_at_fpr_01"
    ]
    assert found is not None
    assert found.value == 0.7
    assert found.high - found.low == pytest.approx(2 * 1.96 * sqrt(0.7 * 0.3 / 1000), rel=0.1)


def test_the_same_generator_gives_the_same_interval() -> None:
    normal, anomalous = np.arange(50.0), np.arange(25.0, 75.0)
    first, second = (
        estimate(("auroc",), normal, anomalous, generator=np.random.default_rng(3))
        for _ in range(2)
    )
    assert first == second
