"""P-values that are too large rather than too small, whatever the reference happened to be."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import betaincinv

_RATIO: Final = 1.05


@final
@dataclass(frozen=True, eq=False)
class BoundedPValues:
    """For each of a few ranks, a number that the true chance of reaching it hardly ever exceeds.

    An input has the rank of how many of the reference are at least as surprising, rounded up to
    one of ``ranks``. Of continuous surprises the true chance of a rank of at most ``k`` is
    distributed as Beta(k + 1, n - k) over references of ``n``; ``bounds`` are its quantiles at
    ``1 - delta / m``, ``m`` being the number of ranks.

    Law: but for a share ``delta`` of references, ``P(p <= a) <= a`` for every ``a`` and every
    input that is distributed as the reference is, given that one reference. So these p-values stay
    valid in a stream of any length.
    """

    reference: Float64[np.ndarray, " reference"]
    ranks: Int64[np.ndarray, " rank"]
    bounds: Float64[np.ndarray, " rank"]

    @staticmethod
    def of(reference: Float64[np.ndarray, " reference"], *, delta: float) -> "BoundedPValues":
        """Bound the p-values among an ascending reference."""
        n = reference.size
        ranks = _ranks(n)
        bounded = betaincinv(ranks + 1, n - ranks, 1 - delta / ranks.size)
        return BoundedPValues(
            reference, np.append(ranks, n), np.append(np.maximum.accumulate(bounded), 1.0)
        )

    def of_inputs(self, surprise: Float64[np.ndarray, " batch"]) -> Float64[np.ndarray, " batch"]:
        """Return the p-value of each surprise."""
        at_least = self.reference.size - np.searchsorted(self.reference, surprise, side="left")
        return self.bounds[np.searchsorted(self.ranks, at_least, side="left")]


def _ranks(size: int) -> Int64[np.ndarray, " rank"]:
    steps = int(np.log(max(size, 2)) / np.log(_RATIO)) + 1
    ranks = np.unique((_RATIO ** np.arange(steps)).astype(np.int64)) - 1
    return ranks[ranks < size]
