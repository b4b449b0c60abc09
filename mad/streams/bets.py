"""Bets against small p-values: p-values in, logarithms of what the bets have won out.

Every bet pays less the larger the p-value is. So it is worse than fair for p-values that are too
large, which two-sided bets are not: on cautious p-values those win without any anomaly.
"""

from typing import Final

import numpy as np
from jaxtyping import Float64

RATES: Final = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""The share of anomalies that a bet expects; the rest of its stake is kept in hand."""
SHAPES: Final = (0.05, 0.1, 0.2, 0.5)
"""How small the p-values of anomalies are expected to be: the smaller the shape, the smaller."""

CELLS: Final = len(RATES) * len(SHAPES)
"""How many bets there are."""
NOTHING: Final = np.full(CELLS, -np.inf)
"""The logarithms of what bets that were never made have won."""


def log_e_values(p: Float64[np.ndarray, " batch"]) -> Float64[np.ndarray, "batch cell"]:
    """Return what each bet pays for each p-value in (0, 1], in nats; rate by rate.

    The bet of rate ``a`` and shape ``k`` pays ``1 - a + a * k * p ** (k - 1)``, which no positive
    number is too small for. Law: for uniform p-values the mean payment is one (Vovk and Wang 2021,
    E-values, section 2).
    """
    assert ((p > 0) & (p <= 1)).all()
    rate, shape = np.array(RATES)[:, None], np.array(SHAPES)
    paid = shape * np.exp((shape - 1) * np.log(p)[:, None, None])
    log_e: Float64[np.ndarray, "batch cell"] = np.log(1 - rate + rate * paid).reshape(-1, CELLS)
    return log_e


def accumulated(
    log_sums: Float64[np.ndarray, " cell"],
    p: Float64[np.ndarray, " batch"],
    log_stakes: Float64[np.ndarray, " batch"],
) -> Float64[np.ndarray, "batch cell"]:
    """Return the logarithms of ``A[t] = (A[t - 1] + stake[t]) * e[t]`` after each input, by bet.

    A stake laid before input ``t`` is multiplied by every payment from ``t`` on: ``A`` is the sum,
    over the times at which a change may have come, of what betting since then has won. O(bets) an
    input.
    """
    log_e = log_e_values(p)
    won = log_e.cumsum(axis=0)
    starts = np.concatenate([log_sums[None], log_stakes[:, None] - (won - log_e)])
    return won + np.logaddexp.accumulate(starts, axis=0)[1:]


def mean_bits(
    log_sums: Float64[np.ndarray, "batch cell"], log_in_hand: Float64[np.ndarray, " batch"]
) -> Float64[np.ndarray, " batch"]:
    """Return the logarithm, to base 2, of the mean over the bets and what is in hand besides."""
    # Along the longer axis of a copy it is three times faster.
    at_stake = np.logaddexp.reduce(log_sums.T.copy(), axis=0) - np.log(CELLS)
    bits: Float64[np.ndarray, " batch"] = np.logaddexp(at_stake, log_in_hand) / np.log(2)
    return bits
