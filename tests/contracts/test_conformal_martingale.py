"""Laws of wealth against the claim that trusted traffic is as the reference."""

import numpy as np
import pytest
from jaxtyping import Float64
from scipy.stats import binomtest

from mad.streams.conformal import ConformalMartingale

STREAMS = 300


def rounded(values: Float64[np.ndarray, " value"]) -> Float64[np.ndarray, " value"]:
    """Return values of which nearly all tie with others."""
    return np.round(values, 0)


def highest(
    rng: np.random.Generator, *, is_tied: bool = False, shift: float = 0.0, reference: int = 60
) -> float:
    """Return the highest wealth on the way of one stream, in powers of ten."""
    make = rounded if is_tied else np.asarray
    trusted = np.sort(make(rng.normal(size=reference)))
    gambler = ConformalMartingale.of(trusted, seed=int(rng.integers(1 << 60)))
    surprise = make(rng.normal(shift, size=240))
    reached = [gambler := gambler.advance(some) for some in np.split(surprise, 6)]
    return max(each.log10 for each in reached)


@pytest.mark.parametrize("is_tied", [False, True])
def test_ordinary_streams_hardly_ever_reach_a_wealth(*, is_tied: bool) -> None:
    rng = np.random.default_rng(3)
    wealth = np.array([highest(rng, is_tied=is_tied) for _ in range(STREAMS)])
    for log10 in (0.5, 1.0, 2.0):
        reached = int((wealth >= log10).sum())
        assert binomtest(reached, STREAMS, 10**-log10, alternative="greater").pvalue > 1e-4


def test_a_shifted_stream_is_found_out() -> None:
    rng = np.random.default_rng(4)
    wealth = [highest(rng, shift=1.0, reference=1000) for _ in range(20)]
    assert min(wealth) > 4


def test_less_surprising_inputs_win_nothing() -> None:
    rng = np.random.default_rng(5)
    wealth = [highest(rng, shift=-1.0, reference=1000) for _ in range(20)]
    assert max(wealth) < 1


def test_a_stream_in_any_batches_wins_the_same() -> None:
    surprise = np.random.default_rng(6).normal(0.3, size=300)
    reference = np.sort(np.random.default_rng(7).normal(size=50))
    gambler = ConformalMartingale.of(reference, seed=9)
    whole = gambler.advance(surprise)
    for some in np.split(surprise, [1, 2, 130, 131, 290]):
        gambler = gambler.advance(some)
    assert gambler.inputs == whole.inputs == 300
    assert gambler.log10 == pytest.approx(whole.log10, abs=1e-9)


def test_wealth_that_no_double_holds_is_still_told() -> None:
    gambler = ConformalMartingale.of(np.zeros(4000), seed=1).advance(np.full(4000, 9.0))
    assert 300 < gambler.log10 < np.inf
    assert ConformalMartingale.of(np.zeros(3), seed=1).log10 == 0
