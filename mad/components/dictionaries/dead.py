"""Latents that nothing activates: how they are taught again."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.dictionaries import sparse
from mad.components.dictionaries.missed import missed_share

_LIFT = 1 / 32


def revival(
    before: Float[Tensor, "batch dead"],
    dead: Int64[Tensor, " dead"],
    decoder: Float[Tensor, "component coordinate"],
    error: Float[Tensor, "batch coordinate"],
    *,
    most: int,
) -> Float[Tensor, ""]:
    """Return how badly the dead latents explain what the living ones leave over.

    ``before`` are the dead latents' values before any rule silenced them; at most ``most`` of them
    take part for each vector (Gao et al. 2024, appendix A.2). The error is taken as given.
    """
    values, chosen = torch.topk(before, min(dead.numel(), most), dim=1)
    return revival_by(values, dead[chosen], decoder, error)


def revival_by(
    values: Float[Tensor, "batch slot"],
    components: Int64[Tensor, "batch slot"],
    decoder: Float[Tensor, "component coordinate"],
    error: Float[Tensor, "batch coordinate"],
) -> Float[Tensor, ""]:
    """Return the same of the latents that take part, and their values."""
    offsets = torch.arange(0, components.numel() + 1, components.shape[1])
    explained = sparse.added(values.relu().flatten(), components.flatten(), offsets, decoder)
    return missed_share(explained, error.detach())


def lift(bias: Float[Tensor, " component"], dead: Int64[Tensor, " dead"]) -> Float[Tensor, ""]:
    """Return zero, with a gradient that raises the biases of the dead at a steady rate.

    For kinds whose dead are below zero rather than below others: they learn a direction by what
    they would explain, and rise until some vector activates them, which ends it.
    """
    own = bias[dead]
    return _LIFT * (own.detach() - own).sum()
