"""Evidence against a whole stream: p-values in, the wealth of a gambler who began with one."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from mad.streams.bets import NOTHING, accumulated, mean_bits


@final
@dataclass(frozen=True, eq=False)
class MixtureMartingale:
    """A gambler's wealth, spread evenly over the bets; ``log_sums`` is what is at stake, in nats.

    Half is at stake from the first input. The other half is laid down input by input, ``1 / 2t``
    being still in hand after ``t``: otherwise a long ordinary stream would have ruined the gambler
    before a change comes.

    Law (Ville 1939): for independent p-values with ``P(p <= a) <= a``, the chance that the wealth
    ever reaches ``1 / a`` is at most ``a``.
    """

    log_sums: Float64[np.ndarray, " cell"]
    inputs: int

    @staticmethod
    def start() -> "MixtureMartingale":
        """Return a gambler who has seen nothing yet."""
        return MixtureMartingale(NOTHING, 0)

    @staticmethod
    def threshold_bits(chance: float) -> float:
        """Return the bits that an ordinary stream ever reaches with at most this chance."""
        return -math.log2(chance)

    @property
    def bits(self) -> float:
        """The wealth now."""
        return float(mean_bits(self.log_sums[None], _log_in_hand(np.array([self.inputs])))[0])

    def advance(
        self, p: Float64[np.ndarray, " batch"]
    ) -> tuple["MixtureMartingale", Float64[np.ndarray, " batch"]]:
        """Return the gambler after these inputs, and the wealth after each, in bits."""
        if p.size == 0:
            return self, np.empty(0)
        times = self.inputs + np.arange(p.size)
        before, after = _log_in_hand(times), _log_in_hand(times + 1)
        stakes = before + np.log1p(-np.exp(after - before))
        log_sums = accumulated(self.log_sums, p, stakes)
        return MixtureMartingale(log_sums[-1], self.inputs + p.size), mean_bits(log_sums, after)


def _log_in_hand(inputs: Int64[np.ndarray, " batch"]) -> Float64[np.ndarray, " batch"]:
    return np.where(inputs == 0, 0.0, -np.log(2.0 * np.maximum(inputs, 1)))
