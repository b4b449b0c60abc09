"""How far an activation points from any that was trusted, as a mixture of Gaussians."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.statistics import Kept
from mad.types import Activity, Bits, Context

RELATIVE_RESOLUTION = 0.01
"""Directions are described to this share of a coordinate's root mean square."""

SUPPORT = 10
"""A trusted direction is as isolated as its distance to the tenth nearest other."""

ISOLATED_SHARE = 0.02
"""Share of trusted directions, the most isolated, that vouch for no other."""

MIN_KEPT = 2 * SUPPORT
"""Fewer trusted directions than this say nothing about how far neighbours are."""

_CHUNK = 512

_NOTHING = 1e-12
"""The least length that a vector is brought from to one."""

_VANISHED = -100.0
"""``ln`` of a share of the largest kernel that no sum in double precision can show."""


@final
@dataclass(frozen=True)
class NeighbourCode:
    """The direction of an activation, rounded to a grid, under trusted directions.

    Each kept direction is the centre of an equally likely Gaussian, as wide as its neighbours are
    far and no narrower than ``step`` (a variable kernel density, Breiman, Meisel and Purcell 1977);
    the length is ``-log2`` of density times cell. So the same distance counts for more where
    trusted activations crowd than where they are sparse. An unusual combination of usual components
    points where no trusted activation does, though each of its coordinates is ordinary.
    ``variance`` is each kernel's, in every coordinate; ``rows`` says which trusted input each is;
    ``typical_bits`` is the mean length of trusted directions.
    """

    directions: Float32[Tensor, "kept coordinate"]
    rows: Int64[Tensor, " kept"]
    variance: Float64[Tensor, " kept"]
    typical_bits: float

    @staticmethod
    def fit(kept: Kept) -> "NeighbourCode":
        """Keep the directions but the most isolated; each kernel is as wide as others are far.

        Needs at least MIN_KEPT. A kernel's variance is in proportion to the squared distance to its
        tenth nearest other; what it is on average for the nearest one is the proportion.
        """
        every = functional.normalize(kept.activations.double(), dim=1)
        nearest, isolation = _distances_among(every, SUPPORT)
        trusted = isolation <= torch.quantile(isolation, 1 - ISOLATED_SHARE)
        coordinates = every.shape[1]
        reach = isolation[trusted]
        # Directions that ten others share have no reach; the step is all the width they need.
        proportion = (nearest[trusted] / reach.clamp_min(1e-300)).mean() / coordinates
        variance = (reach * proportion).clamp_min(_step(coordinates) ** 2)
        directions = every[trusted].float()
        unfinished = NeighbourCode(directions, kept.rows[trusted], variance, 0.0)
        typical = unfinished.direction_lengths(directions.double(), but_itself=True).mean()
        return NeighbourCode(directions, kept.rows[trusted], variance, float(typical))

    def lengths(self, activity: Activity, context: Context) -> Bits:  # noqa: ARG002  # Code
        """Return the code length of each activation's direction, in bits."""
        every = activity.activation.double()
        # Of few numbers, numpy makes a third of the work that torch does.
        norms = np.sqrt(np.square(every.numpy()).sum(axis=1, keepdims=True))
        # What is infinite has no direction: torch divides it by itself without a warning.
        return self.direction_lengths(every / torch.from_numpy(np.maximum(norms, _NOTHING)))

    def contributions(self, activity: Activity, context: Context) -> Float64[Tensor, "batch 1"]:
        """Charge everything to the nearest trusted direction."""
        return self.lengths(activity, context).unsqueeze(1)

    def typical(self, context: Context) -> Float64[Tensor, "batch 1"]:
        """Return the mean length of trusted directions; it does not depend on the context."""
        return torch.full((context.numel(), 1), self.typical_bits, dtype=torch.float64)

    def nearest(self, activity: Activity) -> tuple[int, float]:
        """Return which trusted input the first activation is nearest to, and their cosine."""
        direction = functional.normalize(activity.activation[:1].double(), dim=1)
        weighted = self._kernels.weighted[:, :-2]
        cosine, place = ((weighted @ direction[0]) * self.variance).max(dim=0)
        return int(self.rows[place]), float(cosine)

    def direction_lengths(
        self, directions: Float64[Tensor, "batch coordinate"], *, but_itself: bool = False
    ) -> Bits:
        """Return ``-log2`` of density times cell at points of the sphere, or anywhere near it.

        With ``but_itself`` the points are the kept directions, and each is left to the others.
        """
        if not but_itself and len(directions) <= _CHUNK:
            return self._bits(_log_sum(self._kernels.nats(directions)), self.directions.shape[0])
        nats = [
            _log_sum(self._kernels.nats(chunk, hidden=start if but_itself else None))
            for start, chunk in zip(
                range(0, len(directions), _CHUNK), directions.split(_CHUNK), strict=True
            )
        ]
        return self._bits(torch.cat(nats), self.directions.shape[0] - but_itself)

    def _bits(self, nats: Float64[Tensor, " batch"], kernels: int) -> Bits:
        coordinates = self.directions.shape[1]
        floor = math.log2(kernels) + coordinates * (
            0.5 * math.log2(2 * math.pi) - math.log2(_step(coordinates))
        )
        return torch.from_numpy(floor - nats.numpy() / math.log(2))

    @cached_property
    def _kernels(self) -> "_Kernels":
        return _Kernels.of(self.directions.double(), self.variance)


@final
@dataclass(frozen=True)
class _Kernels:
    """Kernels laid out so that one product gives the logarithm of each at a point.

    ``ln`` of a kernel is ``-|x - c|^2 / 2 v - d ln(v) / 2``: linear in ``x``, its square and one,
    which are ``x``'s last coordinates here. A request must not read centres twice.
    """

    weighted: Float64[Tensor, "kept coordinate_square_and_one"]

    @staticmethod
    def of(
        centres: Float64[Tensor, "kept coordinate"], variance: Float64[Tensor, " kept"]
    ) -> "_Kernels":
        """Lay out kernels, one a row."""
        half = torch.full((len(centres), 1), -0.5, dtype=torch.float64)
        volume = 0.5 * centres.shape[1] * variance.log()
        start = -0.5 * centres.square().sum(dim=1) / variance - volume
        scaled = torch.cat([centres, half], dim=1) / variance.unsqueeze(1)
        return _Kernels(torch.cat([scaled, start.unsqueeze(1)], dim=1))

    def nats(
        self, points: Float64[Tensor, "chunk coordinate"], *, hidden: int | None = None
    ) -> Float64[Tensor, "chunk kept"]:
        """Return ``ln`` of each kernel, but for what all share.

        If points are centres themselves, from number ``hidden`` on, each is hidden from itself.
        """
        own = points.numpy()
        joined = np.ones((len(own), own.shape[1] + 2))
        joined[:, :-2] = own
        np.square(own).sum(axis=1, out=joined[:, -2])
        found = torch.mm(torch.from_numpy(joined), self.weighted.T)
        if hidden is not None:
            found.diagonal(hidden).fill_(-torch.inf)
        return found


def _step(coordinates: int) -> float:
    return RELATIVE_RESOLUTION / math.sqrt(coordinates)


def _log_sum(nats: Float64[Tensor, "chunk kept"]) -> Float64[Tensor, " chunk"]:
    """Return ``ln`` of the sum of kernels, given ``ln`` of each, which are written over."""
    largest = nats.amax(dim=1, keepdim=True)
    # Kernels that vanish beside the largest would take a processor's slow path for tiny numbers.
    summed = nats.sub_(largest).clamp_min_(_VANISHED).exp_().sum(dim=1)
    return summed.log_().add_(largest.squeeze(1))


def _distances_among(
    directions: Float64[Tensor, "kept coordinate"], support: int
) -> tuple[Float64[Tensor, " kept"], Float64[Tensor, " kept"]]:
    """Return the squared distances to the nearest other and to the ``support``-th nearest."""
    squares, reduced = directions.square().sum(dim=1), []
    for start in range(0, len(directions), _CHUNK):
        chunk = directions[start : start + _CHUNK]
        squared = torch.addmm(squares, chunk, directions.T, alpha=-2)
        squared += squares[start : start + _CHUNK].unsqueeze(1)
        squared.clamp_min_(0.0).diagonal(start).fill_(torch.inf)
        reduced.append(squared.topk(support, dim=1, largest=False).values)
    found = torch.cat(reduced)
    return found[:, 0], found[:, -1]
