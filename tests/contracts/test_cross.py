"""Laws of cross-conformal p-values: short of data, every trusted input fits and calibrates."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from jaxtyping import Float64
from scipy.stats import binomtest
from torch import Tensor

from mad.calibration.conformal import p_values
from mad.calibration.cross import cross_p_values, cross_promise, cross_splits
from mad.calibration.rarity import Rarity
from mad.errors import ConfigError

COORDINATES = 8
TRIALS = 600


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 200), st.integers(2, 20), st.integers(0, 99))
def test_every_row_is_held_out_once_in_folds_of_one_size(count: int, folds: int, seed: int) -> None:
    if folds > count:
        return
    held_out = cross_splits(count, folds=folds, seed=seed)
    assert len(held_out) == folds
    assert torch.cat(held_out).sort().values.tolist() == list(range(count))
    sizes = [fold.numel() for fold in held_out]
    assert max(sizes) - min(sizes) <= 1
    assert all(fold.tolist() == sorted(fold.tolist()) for fold in held_out)


def test_the_seed_decides_the_folds() -> None:
    def folds(seed: int) -> list[list[int]]:
        return [fold.tolist() for fold in cross_splits(50, folds=5, seed=seed)]

    assert folds(1) == folds(1)
    assert folds(1) != folds(2)


@pytest.mark.parametrize(("count", "folds"), [(10, 1), (10, 11), (0, 2)])
def test_folds_that_cannot_be_dealt_are_refused(count: int, folds: int) -> None:
    with pytest.raises(ConfigError, match=f"{count} trusted inputs .* into {folds} folds"):
        cross_splits(count, folds=folds, seed=0)


def test_the_rank_is_the_count_over_all_folds() -> None:
    references = [
        torch.tensor([1.0, 4.0], dtype=torch.float64),
        torch.tensor([2.0, 2.0, 9.0], dtype=torch.float64),
    ]
    surprise = torch.tensor([[4.0, 2.0], [0.0, 10.0], [5.0, math.inf]], dtype=torch.float64)
    # At least as surprising: 1 and 3, 2 and 0, none; the input itself; among five and itself.
    assert cross_p_values(surprise, references).tolist() == [5 / 6, 3 / 6, 1 / 6]


def test_one_fit_for_all_folds_is_the_plain_rank() -> None:
    reference, surprise = torch.randn(40, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    folds = [part.sort().values for part in reference.split(10)]
    found = cross_p_values(surprise.unsqueeze(1).expand(-1, 4), folds)
    assert torch.equal(found, p_values(surprise, reference.sort().values))


@pytest.mark.parametrize(
    ("rate", "count", "folds"), [(0.05, 60, 5), (0.1, 40, 10), (0.02, 100, 10)]
)
def test_false_alarms_stay_below_the_promise_and_near_the_rate(
    rate: float, count: int, folds: int
) -> None:
    generator = torch.Generator().manual_seed(count)
    alarms = sum(_alarms(rate, count, folds, generator) for _ in range(TRIALS))
    promise = cross_promise(rate, count=count, folds=folds)
    assert binomtest(alarms, TRIALS, promise, alternative="greater").pvalue > 1e-3
    # Not promised, and yet: a squared distance is a stable score.
    assert binomtest(alarms, TRIALS, rate, alternative="greater").pvalue > 1e-3


def test_scoring_what_was_fitted_breaks_the_promise_that_crossing_keeps() -> None:
    generator = torch.Generator().manual_seed(0)
    alarms = 0
    for _ in range(TRIALS):
        draw = torch.randn(41, COORDINATES, generator=generator, dtype=torch.float64)
        reference = _distance(draw[1:], draw[1:]).sort().values
        alarms += float(p_values(_distance(draw[1:], draw[:1]), reference)) <= 0.1
    assert alarms / TRIALS > 2 * 0.1


@pytest.mark.parametrize("folds", [2, 5, 50, 1_000])
def test_the_promise_is_twice_the_rate_and_a_remainder_that_fades(folds: int) -> None:
    for count in (1_000, 100_000):
        remainder = cross_promise(0.05, count=count, folds=folds) - 0.1
        assert 0 <= remainder < math.sqrt(2 / count)
    # With a fold for every input, jackknife+: nothing is added (theorem 1).
    assert cross_promise(0.05, count=1_000, folds=1_000) == pytest.approx(0.1)
    assert cross_promise(0.6, count=1_000, folds=10) == 1.0


def _alarms(rate: float, count: int, folds: int, generator: torch.Generator) -> bool:
    draw = torch.randn(count + 1, COORDINATES, generator=generator, dtype=torch.float64)
    strange, trusted = draw[:1], draw[1:]
    columns, references = [], []
    for held_out in cross_splits(count, folds=folds, seed=0):
        kept = torch.ones(count, dtype=torch.bool)
        kept[held_out] = False
        columns.append(_distance(trusted[kept], strange))
        references.append(_distance(trusted[kept], trusted[held_out]).sort().values)
    return float(cross_p_values(torch.stack(columns, dim=1), references)) <= rate


def _distance(
    fitted: Float64[Tensor, "row coordinate"], scored: Float64[Tensor, "batch coordinate"]
) -> Float64[Tensor, " batch"]:
    """Return the squared Mahalanobis distance: many parameters for few inputs."""
    away = scored - fitted.mean(dim=0)
    whitened: Tensor = torch.linalg.solve(fitted.T.cov(), away.T).T
    return (away * whitened).sum(dim=1)


def test_one_held_out_part_can_weigh_and_calibrate_when_crossed() -> None:
    generator = torch.Generator().manual_seed(7)
    spread = torch.tensor([1.0, 100.0], dtype=torch.float64)
    alarms = 0
    for _ in range(TRIALS):
        draw = torch.randn(61, 2, generator=generator, dtype=torch.float64) * spread
        strange, trusted = draw[:1], draw[1:]
        columns, references = [], []
        for held_out in cross_splits(60, folds=3, seed=0):
            kept = torch.ones(60, dtype=torch.bool)
            kept[held_out] = False
            rarity = Rarity.fit(trusted[kept])
            columns.append(rarity.bits(strange).sum(dim=1))
            references.append(rarity.bits(trusted[held_out]).sum(dim=1).sort().values)
        alarms += cross_p_values(torch.stack(columns, dim=1), references).item() <= 0.1
    assert binomtest(alarms, TRIALS, 0.1, alternative="greater").pvalue > 1e-3
    assert alarms > 0
