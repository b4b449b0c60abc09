"""How much of a batch's squares a reconstruction misses: what every training descends."""

from jaxtyping import Float
from torch import Tensor

_LEAST = 1e-4
"""The mean square that a batch counts for at least. Vectors are normalised to one, and a batch that
lies at their centre would else divide by nothing."""


def missed_share(
    explained: Float[Tensor, "batch coordinate"], target: Float[Tensor, "batch coordinate"]
) -> Float[Tensor, ""]:
    """Return the error's mean square over the target's, with gradients."""
    return (target - explained).square().sum(dim=1).mean() / mean_squares(target)


def mean_squares(target: Float[Tensor, "batch coordinate"]) -> Float[Tensor, ""]:
    """Return the mean over normalised vectors of the sum of their squares; never zero."""
    return target.square().sum(dim=1).mean().clamp_min(_LEAST * target.shape[1])
