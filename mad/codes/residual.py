"""What the components leave unexplained, as a Gaussian code."""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.contexts import Centres, ContextMeans, rows_of
from mad.codes.statistics import ResidualMoments
from mad.types import Activity, Bits, Context

MAX_COORDINATES = 4_096
"""A full covariance grows with the square; wider sites take ``low_rank``."""

RELATIVE_RESOLUTION = 0.01
"""Residuals are described to this share of their root mean square in trusted data."""


@final
@dataclass(frozen=True)
class GaussianCode:
    """A residual, rounded to a grid, under a Gaussian fitted on trusted data.

    The length is ``-log2`` of density times cell: ``floor_bits`` at the mean, plus squared
    Mahalanobis distance over ``2 ln 2``. No direction has a standard deviation below the grid's
    step, so the sum of density times cell over the grid is one to within 1e-8 a coordinate, and no
    length is negative. Row ``i`` of ``mean`` belongs to ``contexts[i]`` (ascending), the last to
    every other context; the covariance is around them, and the same for all. ``spread`` is each
    coordinate's mean share of the squared distance in trusted data.
    """

    contexts: Int64[Tensor, " context"]
    mean: Float64[Tensor, "context_and_any coordinate"]
    precision: Float64[Tensor, "coordinate coordinate"]
    spread: Float64[Tensor, " coordinate"]
    floor_bits: float

    @staticmethod
    def fit(
        moments: ResidualMoments, means: ContextMeans | None = None, *, step: float | None = None
    ) -> "GaussianCode":
        """Fit mean and covariance, shrunk towards a multiple of the identity.

        With ``means``, each context has its own mean, shrunk to that over all. The shrinkage of
        the covariance is ``min(1/2, d / n)`` for ``d`` coordinates and ``n`` inputs, and never
        less than the square of the resolution. Lengths of several residuals compare on one grid:
        with its ``step`` given, the step's square is added to every direction.
        """
        coordinates = moments.mean.numel()
        centres = Centres.of(moments.mean, means)
        scatter = moments.scatter - centres.explained.T @ centres.explained
        covariance = scatter / moments.inputs
        mean_square = max(float(covariance.diagonal().mean()), 1e-24)
        shrink = min(0.5, coordinates / moments.inputs) + RELATIVE_RESOLUTION**2
        shrunk = (1 - shrink) * covariance
        shrunk.diagonal().add_(shrink * mean_square + (step or 0.0) ** 2)
        factor = torch.linalg.cholesky(shrunk)
        step = step or RELATIVE_RESOLUTION * math.sqrt(mean_square)
        volume = float(factor.diagonal().log2().sum())
        precision = torch.cholesky_inverse(factor)
        return GaussianCode(
            centres.contexts,
            centres.mean,
            precision,
            spread=(precision * covariance).sum(dim=1),
            floor_bits=volume + coordinates * (0.5 * math.log2(2 * math.pi) - math.log2(step)),
        )

    def lengths(self, activity: Activity, context: Context) -> Bits:
        """Return the code length of each residual, in bits."""
        squared = self._squared(activity, context).sum(dim=1)
        return squared.div_(2 * math.log(2)).add_(self.floor_bits)

    def contributions(
        self, activity: Activity, context: Context
    ) -> Float64[Tensor, "batch coordinate"]:
        """Split the squared distance by coordinate, and its floor evenly.

        A coordinate that trusted data ties to others can have a negative share.
        """
        return self._bits(self._squared(activity, context))

    def typical(self, context: Context) -> Float64[Tensor, "batch coordinate"]:
        """Return the mean share of each coordinate; it does not depend on the context."""
        return self._bits(self.spread).expand(context.numel(), -1)

    def _squared(self, activity: Activity, context: Context) -> Float64[Tensor, "batch coordinate"]:
        """Split the squared Mahalanobis distance by coordinate."""
        one_for_all = not self.contexts.numel()
        mean = self.mean if one_for_all else self.mean[rows_of(self.contexts, context)]
        away = activity.residual.double() - mean
        return away * (away @ self.precision)

    def _bits(self, squared: Float64[Tensor, "*batch coordinate"]) -> Float64[Tensor, "..."]:
        return squared / (2 * math.log(2)) + self.floor_bits / self.spread.numel()
