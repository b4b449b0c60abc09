"""How well a decomposition found known mechanisms: pieces in, figures out.

Sizes of matrices are compared as published (SPD, arXiv:2506.20790, section 3): MMCS is the mean
over input features of the largest cosine between a feature's column of the matrix and that of a
subcomponent, and ML2R the mean ratio of the lengths of the two. Subcomponents of less than a
hundredth of the column's length do not count: what is left of unused ones has a cosine too, and one
of them came closest to a feature by the sixth digit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mad.components.parameters.sigmoids import lower_leaky
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.passes import Passes

ACTIVE = 0.1
"""Importance above which a subcomponent counts as active, as published."""

PRESENT = 0.01
"""Share of a feature's length that a subcomponent must have to be compared with it."""

ALONE = 0.75
"""The value of a feature that is looked at on its own."""


@final
@dataclass(frozen=True)
class Found:
    """What one layer's pieces do when features come alone.

    ``alive`` is how many subcomponents any feature activates, ``active`` how many one does on
    average, and ``largest`` the largest importance, a mean over features. ``identity_error`` counts
    importances that are off a one-to-one assignment of features to subcomponents by more than 0.1:
    what it should be is 1, or 0.
    """

    alive: int
    active: float
    largest: float
    identity_error: int

    @staticmethod
    def of(importance: Float[Tensor, "feature component"]) -> "Found":
        """Measure importances of features that come alone."""
        active = importance > ACTIVE
        rows, columns = linear_sum_assignment(importance.numpy(), maximize=True)
        wanted = torch.zeros_like(importance)
        wanted[torch.as_tensor(rows), torch.as_tensor(columns)] = 1.0
        return Found(
            alive=int(active.any(dim=0).sum()),
            active=float(active.sum(dim=1).float().mean()),
            largest=float(importance.amax(dim=1).mean()),
            identity_error=int(((importance - wanted).abs() > ACTIVE).sum()),
        )


def alone(
    passes: Passes, pieces: Sequence[Subcomponents], features: int
) -> Mapping[str, Float[Tensor, "feature component"]]:
    """Return importances in each layer when each feature comes alone."""
    looked = passes.look(ALONE * torch.eye(features))
    importance = {}
    for piece in pieces:
        inner = passes.inner(looked, piece)
        source = passes.source(looked, piece) if piece.importance.needs_source else None
        importance[piece.layer.name] = lower_leaky(piece.importance.logits(inner, source))
    return importance


def likeness(
    matrix: Float[Tensor, "feature target"], v: Float[Tensor, "feature component"], u: Tensor
) -> tuple[float, float]:
    """Return MMCS and ML2R of a matrix whose rows are what features write."""
    # A subcomponent's row of a feature is u times a number, so cosines are of directions alone.
    lengths = matrix.norm(dim=1, keepdim=True)
    length = v.abs() * u.norm(dim=1)
    sign = torch.where(v < 0, -1.0, 1.0)
    product = sign * (matrix @ u.T)
    cosine = product / (u.norm(dim=1) * lengths).clamp(min=1e-30)
    present: Bool[Tensor, "feature component"] = length > PRESENT * lengths
    best = cosine.masked_fill(~present, -1.0).max(dim=1)
    ratio = length.gather(1, best.indices[:, None])[:, 0] / lengths[:, 0]
    return float(best.values.mean()), float(ratio.mean())
