"""How far out in the trusted tails each coordinate is, added up: trusted vectors in, a score out.

Tails are counted with the vector asked about among the trusted ones, so that one beyond them all
has a finite score. PyOD's ECOD and COPOD do so when asked about one vector at a time; asked about
several, they count them all, and are no longer online.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.bench.peers.base import Scores, Vectors, VectorScore

_Combine: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Left tail, right tail and that of the skew, in nats, to what a coordinate counts."""

_CHUNK = 2_048


def ecod(trusted: Vectors) -> VectorScore:
    """Score by the larger tail of each coordinate (Li et al. 2022, as in PyOD)."""

    def combine(left: Tensor, right: Tensor, skewed: Tensor) -> Tensor:
        return left.maximum(right).maximum(skewed)

    return _over_tails(trusted, combine)


def copod(trusted: Vectors) -> VectorScore:
    """Score by the mean of both tails, or that of the skew if larger (Li et al. 2020, PyOD)."""

    def combine(left: Tensor, right: Tensor, skewed: Tensor) -> Tensor:
        return skewed.maximum((left + right) / 2)

    return _over_tails(trusted, combine)


def _over_tails(trusted: Vectors, combine: _Combine) -> VectorScore:
    ascending = trusted.double().T.sort(dim=1).values.contiguous()
    leans = _skewness(trusted.double()).sign().unsqueeze(1)

    def score(vectors: Vectors) -> Scores:
        parts = []
        for chunk in vectors.double().split(_CHUNK):
            left, right = _tails(ascending, chunk.T.contiguous())
            skewed = torch.where(leans < 1, left, 0.0) + torch.where(leans > -1, right, 0.0)
            parts.append(combine(left, right, skewed).sum(dim=0))
        return torch.cat(parts)

    return score


def _tails(
    ascending: Float64[Tensor, "coordinate trusted"], asked: Float64[Tensor, "coordinate batch"]
) -> tuple[Float64[Tensor, "coordinate batch"], Float64[Tensor, "coordinate batch"]]:
    """Return minus the logarithm of the share at or below, and of that at or above."""
    count = ascending.shape[1]
    at_or_below = torch.searchsorted(ascending, asked, right=True).double()
    at_or_above = count - torch.searchsorted(ascending, asked).double()
    left, right = (-((tail + 1) / (count + 1)).log() for tail in (at_or_below, at_or_above))
    return left, right


def _skewness(vectors: Float64[Tensor, "batch coordinate"]) -> Float64[Tensor, " coordinate"]:
    """Return the third standardised moment; 0 where nothing varies."""
    away = vectors - vectors.mean(dim=0)
    second, third = away.square().mean(dim=0), away.pow(3).mean(dim=0)
    return torch.where(second > 0, third / second.clamp_min(1e-300).pow(1.5), 0.0)
