"""What a residual may be coded by: Gaussians over all coordinates, or over those not zero."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

from jaxtyping import Float64
from torch import Tensor

from mad.codes.statistics import ResidualMoments
from mad.report.accounting import NOTHING, Described
from mad.report.gaussian import Divided, Gaussians, Squares, gaussian_bits
from mad.types import Activity


@final
@dataclass(frozen=True)
class ResidualSums:
    """Moments of residuals, and their sums where the point of the grid is not zero."""

    moments: ResidualMoments
    entries: Float64[Tensor, " coordinate"]
    total: Float64[Tensor, " coordinate"]
    squares: Float64[Tensor, " coordinate"]

    @staticmethod
    def of(said: Activity) -> "ResidualSums":
        """Add up one batch."""
        speaks = (said.activation != 0).double()
        residual = said.residual * speaks
        return ResidualSums(
            ResidualMoments.of(said),
            speaks.sum(dim=0),
            residual.sum(dim=0),
            residual.square().sum(dim=0),
        )

    def merge(self, other: "ResidualSums") -> "ResidualSums":
        """Return the sums over both parts of the data."""
        return ResidualSums(
            self.moments.merge(other.moments),
            self.entries + other.entries,
            self.total + other.total,
            self.squares + other.squares,
        )


@final
@dataclass(frozen=True)
class ResidualTally:
    """What held-out residuals cost, or what their cost depends on, added up."""

    squares: Squares
    spoken_bits: float

    def merge(self, other: "ResidualTally") -> "ResidualTally":
        """Return the tally of both parts of the data."""
        return ResidualTally(
            self.squares.merge(other.squares), self.spoken_bits + other.spoken_bits
        )


@final
@dataclass(frozen=True)
class ResidualCodes:
    """Codes fitted to the same residuals.

    Besides those of all coordinates there is one for points with many zeros, as behind a
    rectifier: first which coordinates are zero, described as neurons describe it, and then a
    Gaussian, with its own ``mean`` and ``variance``, of each that is not.
    """

    gaussians: Gaussians
    mean: Float64[Tensor, " coordinate"]
    variance: Float64[Tensor, " coordinate"]

    @staticmethod
    def fit(sums: ResidualSums, *, step: float) -> "ResidualCodes":
        """Fit every code; coordinates that spoke seldom lean on one pseudo-entry from all."""
        everything = sums.entries.sum().clamp_min(1)
        entries = sums.entries + 1
        mean = (sums.total + sums.total.sum() / everything) / entries
        square = (sums.squares + sums.squares.sum() / everything) / entries
        variance = (square - mean.square()).clamp_min(step**2)
        return ResidualCodes(Gaussians.fit(sums.moments, step=step), mean, variance)

    def tally(self, said: Activity) -> ResidualTally:
        """Add up a batch of held-out residuals."""
        residual = said.residual.double()
        bits = gaussian_bits(self.variance, (residual - self.mean).square(), self.gaussians.step)
        spoken = (bits * (said.activation != 0)).sum()
        return ResidualTally(self.gaussians.squares(residual), float(spoken))

    def candidates(self, tally: ResidualTally, *, silence: Described) -> Iterator[Divided]:
        """Return every code with its mean length; ``silence`` is what naming the zeros costs.

        The codes of silence were to choose from here as well.
        """
        inputs, width = tally.squares.inputs, len(self.mean)
        choices = width + 2 + silence.choices
        for one in self.gaussians.candidates(tally.squares):
            yield replace(one, rest=replace(one.rest, choices=choices))
        spoken = Described(
            f"gaussian where not zero, zeros {silence.code}",
            silence.parameters + width,
            choices,
            silence.mean_bits + tally.spoken_bits / inputs,
        )
        yield Divided(0, width, NOTHING, spoken)
