"""How many of some known directions a dictionary has: cosines of the best matches."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

MOST_MATCHED = 4_096
"""One-to-one matching takes time with the cube: with more directions to match there is none."""

HIGH, HIGHER = 0.9, 0.95
"""Cosines from which a direction counts as found."""

_PIECE = 512


@final
@dataclass(frozen=True, slots=True)
class Cosines:
    """The mean over known directions, and the shares of them above 0.9 and 0.95."""

    mean: float
    above_90: float
    above_95: float

    @staticmethod
    def of(cosines: Float[Tensor, " known"]) -> "Cosines":
        """Sum cosines up."""
        figures = (cosines, cosines > HIGH, cosines > HIGHER)
        return Cosines(*(float(one.double().mean()) for one in figures))


@final
@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of each of ``known`` directions.

    ``nearest`` is of the largest cosine with any direction found; its mean is the MMCS (Sharkey,
    Braun and Millidge 2022, "Taking features out of superposition"). ``unique`` is the share of
    known directions left when those that share their nearest with another count once. ``matched``
    is of one-to-one matches of the largest total cosine (Kuhn 1955); a known direction that is left
    without a match counts as zero. It is None where there are more than ``MOST_MATCHED`` to match.
    Cosines have signs: a latent is never negative.
    """

    known: int
    nearest: Cosines
    unique: float
    matched: Cosines | None


def recovery(
    known: Float[Tensor, "known coordinate"], found: Float[Tensor, "found coordinate"]
) -> Recovery:
    """Look for each known direction among those found; lengths do not matter."""
    known, found = (functional.normalize(one.float(), dim=1) for one in (known, found))
    best, place = _nearest(known, found)
    matched = None
    if min(len(known), len(found)) <= MOST_MATCHED:
        matched = Cosines.of(_matched(known, found))
    return Recovery(len(known), Cosines.of(best), len(place.unique()) / len(known), matched)


def _nearest(
    known: Float[Tensor, "known coordinate"], found: Float[Tensor, "found coordinate"]
) -> tuple[Float[Tensor, " known"], Tensor]:
    # In pieces: all cosines at once can be far larger than the directions.
    parts = [(piece @ found.T).max(dim=1) for piece in known.split(_PIECE)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _matched(
    known: Float[Tensor, "known coordinate"], found: Float[Tensor, "found coordinate"]
) -> Float[Tensor, " known"]:
    cosines = known @ found.T
    rows, columns = map(torch.as_tensor, linear_sum_assignment(cosines.numpy(), maximize=True))
    return torch.zeros(len(known)).index_put((rows,), cosines[rows, columns])
