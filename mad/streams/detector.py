"""Evidence of a change: p-values in, the Shiryaev-Roberts sum over its possible times out."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from mad.streams.bets import NOTHING, accumulated, mean_bits


@final
@dataclass(frozen=True, eq=False)
class ChangeDetector:
    """For each bet ``R[t] = (1 + R[t - 1]) * e[t]``: one is staked before every input.

    ``log_sums`` is ``R`` in nats. Evidence is ``1 + R``, averaged over the bets, so that it begins
    at 0 bits.

    Law: for independent uniform p-values the mean of ``R[t]`` is ``t``. So an alarm at ``R >= c``
    comes after ``c`` inputs or more on average, and within ``t`` inputs with a chance of at most
    ``t / c`` (Shin, Ramdas and Rinaldo 2024, E-detectors).
    """

    log_sums: Float64[np.ndarray, " cell"]

    @staticmethod
    def start() -> "ChangeDetector":
        """Return a detector that has seen nothing yet."""
        return ChangeDetector(NOTHING)

    @staticmethod
    def threshold_bits(run_length: int) -> float:
        """Return the bits that ordinary streams reach after so many inputs or more, on average."""
        return math.log2(1 + run_length)

    @property
    def bits(self) -> float:
        """The evidence now."""
        return float(mean_bits(self.log_sums[None], np.zeros(1))[0])

    def advance(
        self, p: Float64[np.ndarray, " batch"]
    ) -> tuple["ChangeDetector", Float64[np.ndarray, " batch"]]:
        """Return the detector after these inputs, and the evidence after each, in bits."""
        if p.size == 0:
            return self, np.empty(0)
        log_sums = accumulated(self.log_sums, p, np.zeros(p.size))
        return ChangeDetector(log_sums[-1]), mean_bits(log_sums, np.zeros(p.size))
