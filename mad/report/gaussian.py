"""Gaussian codes of a residual on its grid: along k principal directions, for every k at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.codes.statistics import ResidualMoments
from mad.report.accounting import NOTHING, Described


@final
@dataclass(frozen=True)
class Squares:
    """Sums of squares of held-out residuals around the fitted mean, by direction and coordinate."""

    inputs: int
    directions: Float64[Tensor, " coordinate"]
    coordinates: Float64[Tensor, " coordinate"]

    def merge(self, other: "Squares") -> "Squares":
        """Return the sums over both parts of the data."""
        return Squares(
            self.inputs + other.inputs,
            self.directions + other.directions,
            self.coordinates + other.coordinates,
        )


@final
@dataclass(frozen=True)
class Divided:
    """A Gaussian code: what its k principal directions cost, and what everything else.

    ``frame_parameters`` are those of the mean and the directions themselves.
    """

    directions: int
    frame_parameters: int
    leading: Described
    rest: Described

    @property
    def whole(self) -> Described:
        """Both as one term."""
        bits = self.leading.mean_bits + self.rest.mean_bits
        parameters = self.frame_parameters + self.rest.parameters
        return Described(self.rest.code, parameters, self.rest.choices, bits)


@final
@dataclass(frozen=True)
class Gaussians:
    """Gaussian codes fitted to the same moments.

    Either the first ``k`` principal directions have a variance each and all others share one, for
    any ``k``; or each coordinate has its own and there are no directions. The length of a point is
    ``-log2`` of density times cell. No deviation is below the grid's step, so the sum over the grid
    is one to within 1e-8 a coordinate, wherever the grid lies.
    """

    step: float
    mean: Float64[Tensor, " coordinate"]
    frame: Float64[Tensor, "coordinate coordinate"]
    along: Float64[Tensor, " coordinate"]
    shared: Float64[Tensor, " k"]
    variance: Float64[Tensor, " coordinate"]

    @staticmethod
    def fit(moments: ResidualMoments, *, step: float) -> "Gaussians":
        """Find the principal directions, the largest variance first."""
        covariance = moments.scatter / moments.inputs
        along, frame = torch.linalg.eigh(covariance)
        along, frame = along.flip(0), frame.flip(1)
        # What k directions leave: the mean of the variances after them; nothing after the last.
        left = along.flip(0).cumsum(dim=0).flip(0)
        shared = left / torch.arange(len(along), 0, -1)
        return Gaussians(
            step,
            moments.mean,
            frame,
            along.clamp_min(step**2),
            torch.cat([shared, shared.new_ones(1)]).clamp_min(step**2),
            covariance.diagonal().clamp_min(step**2),
        )

    def squares(self, residual: Float64[Tensor, "batch coordinate"]) -> Squares:
        """Add up what the lengths of a batch depend on."""
        away = residual - self.mean
        along = away @ self.frame
        return Squares(len(away), along.square().sum(dim=0), away.square().sum(dim=0))

    def candidates(self, squares: Squares) -> Iterator[Divided]:
        """Return every code with its mean length over the inputs that were added up."""
        width = len(self.mean)
        choices = width + 2
        by_direction = squares.directions / squares.inputs
        own = gaussian_bits(self.along, by_direction, self.step)
        before = torch.cat([own.new_zeros(1), own.cumsum(dim=0)])
        left = by_direction.flip(0).cumsum(dim=0).flip(0)
        left = torch.cat([left, left.new_zeros(1)])
        for k in range(width + 1):
            shared, others = self.shared[k], width - k
            rest = others * gaussian_bits(shared, left[k] / max(others, 1), self.step)
            frame = k * width - k * (k + 1) // 2  # orthonormal, so fewer than k * width are free
            name = f"gaussian, {k} directions"
            yield Divided(
                k,
                width + frame,
                Described(name, 0, 1, float(before[k])),
                Described(name, k + (k < width), choices, float(rest)),
            )
        mean_square = squares.coordinates / squares.inputs
        by_coordinate = gaussian_bits(self.variance, mean_square, self.step).sum()
        rest_only = Described("gaussian, by coordinate", width, choices, float(by_coordinate))
        yield Divided(0, width, NOTHING, rest_only)


def gaussian_bits(
    variance: Float64[Tensor, "*#some"], square: Float64[Tensor, "*#some"], step: float
) -> Float64[Tensor, "*some"]:
    """Return ``-log2`` of density times cell, given squared distances from the mean."""
    cells = 0.5 * (2 * math.pi * variance / step**2).log2()
    return cells + square / (2 * math.log(2) * variance)
