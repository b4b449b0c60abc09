"""Codes for whole magnitudes: how strongly the components of an active set were used."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.types import Activity, Bits

Scale: TypeAlias = Literal["value", "logarithm"]
"""Whether the magnitude itself is Gaussian, or its logarithm with a coin for its sign."""

NARROWEST = math.sqrt(1 / 12)
"""No spread is below the one that rounding hides, in pitches."""


@final
@dataclass(frozen=True)
class MagnitudeSums:
    """Sums over the entries of each component.

    Sums of whole numbers are exact in float64, and so merge exactly in any order.
    """

    entries: Float64[Tensor, " component"]
    negative: Float64[Tensor, " component"]
    value: Float64[Tensor, " component"]
    value_square: Float64[Tensor, " component"]
    logarithm: Float64[Tensor, " component"]
    logarithm_square: Float64[Tensor, " component"]

    @staticmethod
    def of(said: Activity) -> "MagnitudeSums":
        """Add up one batch of whole magnitudes, none of them zero."""
        value = said.magnitudes
        logarithm = value.abs().log()
        terms = (
            torch.ones_like(value),
            (value < 0).double(),
            value,
            value.square(),
            logarithm,
            logarithm.square(),
        )
        empty = torch.zeros(said.num_components, dtype=torch.float64)
        return MagnitudeSums(*(empty.index_add(0, said.components, term) for term in terms))

    def merge(self, other: "MagnitudeSums") -> "MagnitudeSums":
        """Return the sums over both parts of the data."""
        return MagnitudeSums(
            self.entries + other.entries,
            self.negative + other.negative,
            self.value + other.value,
            self.value_square + other.value_square,
            self.logarithm + other.logarithm,
            self.logarithm_square + other.logarithm_square,
        )

    def moments(
        self, scale: Scale
    ) -> tuple[Float64[Tensor, " component"], Float64[Tensor, " component"]]:
        """Return mean and spread of each component, with one pseudo-entry drawn from them all."""
        total, square = (
            (self.value, self.value_square)
            if scale == "value"
            else (self.logarithm, self.logarithm_square)
        )
        everything = self.entries.sum().clamp_min(1)
        usual = total.sum() / everything
        usual_square = square.sum() / everything
        entries = self.entries + 1
        mean = (total + usual) / entries
        variance = (square + usual_square) / entries - mean.square()
        narrowest = NARROWEST * ((-mean).exp() if scale == "logarithm" else torch.ones_like(mean))
        return mean, variance.clamp_min(0).sqrt().maximum(narrowest)


@final
@dataclass(frozen=True)
class MagnitudeCode:
    """Each component's magnitudes are whole numbers of one bell curve, zero excepted.

    The probability of a number is the mass of the interval that rounds to it, so the
    probabilities of all numbers but zero add up to one.
    """

    scale: Scale
    mean: Float64[Tensor, " component"]
    spread: Float64[Tensor, " component"]
    negative: Float64[Tensor, " component"]

    @staticmethod
    def fit(sums: MagnitudeSums, scale: Scale) -> "MagnitudeCode":
        """Fit mean and spread by component, and the chance of a negative sign."""
        negative = (sums.negative + 0.5) / (sums.entries + 1)
        return MagnitudeCode(scale, *sums.moments(scale), negative)

    @property
    def parameters_each(self) -> int:
        """How many numbers each component has: mean, spread, and for logarithms the sign's coin."""
        return 2 if self.scale == "value" else 3

    def lengths(self, said: Activity) -> Bits:
        """Return the code length of all magnitudes of each input, in bits."""
        bits = torch.zeros(len(said), dtype=torch.float64)
        own = self._values if self.scale == "value" else self._logarithms
        return bits.index_add_(0, said.rows, own(said))

    def _values(self, said: Activity) -> Float64[Tensor, " entry"]:
        within = self._standard(said)
        numbers = said.magnitudes
        mass = log_mass(within(numbers - 0.5), within(numbers + 0.5))
        half = torch.full_like(numbers, 0.5)
        zero = log_mass(within(-half), within(half)).exp()
        return (torch.log1p(-zero) - mass) / math.log(2)

    def _logarithms(self, said: Activity) -> Float64[Tensor, " entry"]:
        within = self._standard(said)
        numbers = said.magnitudes.abs()
        mass = log_mass(within((numbers - 0.5).log()), within((numbers + 0.5).log()))
        half = torch.full_like(numbers, 0.5)
        at_all: Tensor = torch.special.log_ndtr(-within(half.log()))
        negative = self.negative[said.components]
        sign = torch.where(said.magnitudes < 0, negative, 1 - negative).log()
        return (at_all - mass - sign) / math.log(2)

    def _standard(
        self, said: Activity
    ) -> Callable[[Float64[Tensor, " entry"]], Float64[Tensor, " entry"]]:
        mean, spread = self.mean[said.components], self.spread[said.components]
        return lambda edge: (edge - mean) / spread


def log_mass(
    low: Float64[Tensor, " entry"], high: Float64[Tensor, " entry"]
) -> Float64[Tensor, " entry"]:
    """Return ln of the standard normal mass between two edges, however far out they are."""
    # Above the mean both tails are nearly one: count from the other side.
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper: Tensor = torch.special.log_ndtr(high)
    return upper + torch.log1p(-(torch.special.log_ndtr(low) - upper).exp())
