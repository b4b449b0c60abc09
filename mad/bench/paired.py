"""Whether one kind of window differs from another: paired differences in, an interval out.

Windows of a block follow each other closely, so what else the machine does is nearly the same for
all of them, and differences within blocks leave most of it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float64

_RESAMPLES: Final = 600


@final
@dataclass(frozen=True, kw_only=True)
class Shift:
    """How much more one kind has than the other, with an interval that holds it."""

    middle: float
    low: float
    high: float

    @property
    def is_told_apart(self) -> bool:
        """Whether no difference at all lies outside the interval."""
        return not self.low <= 0 <= self.high


def shift(differences: Sequence[float], *, confidence: float = 0.95) -> Shift:
    """Return the pseudo-median of differences and its exact interval by signed ranks.

    Hodges and Lehmann (1963); the interval inverts Wilcoxon's test, so it assumes differences that
    are symmetric, and no more. With too few of them (5 at 95 %) it is everything.
    """
    found = np.array(differences, np.float64)
    rows, columns = np.triu_indices(len(found))
    means = np.sort((found[rows] + found[columns]) / 2)
    outside = _outside(len(found), (1 - confidence) / 2)
    low, high = (means[outside - 1], means[-outside]) if outside else (-np.inf, np.inf)
    return Shift(middle=float(np.median(means)), low=float(low), high=float(high))


def quantile_shift(
    these: Sequence[Float64[np.ndarray, " _"]],
    those: Sequence[Float64[np.ndarray, " _"]],
    *,
    quantile: float,
    chance: np.random.Generator,
    confidence: float = 0.95,
) -> Shift:
    """Return how much more a quantile of everything is, with its percentile-bootstrap interval.

    Both are values by block. Blocks are drawn together, as what disturbs one disturbs both.
    """

    def more(blocks: Sequence[int]) -> float:
        one, other = (
            np.quantile(np.concatenate([found[block] for block in blocks]), quantile)
            for found in (these, those)
        )
        return float(one - other)

    count = len(these)
    drawn = [more(chance.integers(count, size=count).tolist()) for _ in range(_RESAMPLES)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail)).tolist()
    return Shift(middle=more(range(count)), low=low, high=high)


def _outside(pairs: int, tail: float) -> int:
    """Return the largest ``k`` with ``P(W <= k - 1) <= tail`` under no difference; 0 for none."""
    ways: Float64[np.ndarray, " sum"] = np.ones(1)
    for rank in range(1, pairs + 1):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return int(np.searchsorted(np.cumsum(ways / 2.0**pairs), tail, side="right"))
