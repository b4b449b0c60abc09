"""Positions of one input, as of a sequence or a convolutional map, to one vector an input."""

from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mad.errors import ConfigError

Pooling: TypeAlias = Literal["auto", "flatten", "mean", "max", "mean_max", "last"]


def pool(
    activations: Float[Tensor, "batch ..."], pooling: Pooling
) -> Float[Tensor, "batch coordinate"]:
    """Return one vector for each input.

    Two axes are taken as they are. With three, positions come before features; with more, channels
    come before positions. ``mean_max`` joins the mean and the maximum over positions: a mechanism
    that acts at one position shows in the maximum, one that acts at all in the mean. ``auto`` is
    ``mean_max`` for maps and ``last`` for sequences, where the answer is made at the last position
    and averages over the others drown it.
    """
    if activations.ndim <= 2:  # noqa: PLR2004  # batch and features
        return activations.reshape(activations.shape[0], -1)
    if pooling == "flatten":
        return activations.flatten(1)
    by_position = (
        activations
        if activations.ndim == 3  # noqa: PLR2004  # batch, positions, features
        else activations.flatten(2).transpose(1, 2)
    )
    if pooling == "auto":
        pooling = "last" if activations.ndim == 3 else "mean_max"  # noqa: PLR2004  # as above
    match pooling:
        case "mean":
            return by_position.mean(dim=1)
        case "max":
            return by_position.amax(dim=1)
        case "last":
            return by_position[:, -1]
        case "mean_max":
            return torch.cat([by_position.mean(dim=1), by_position.amax(dim=1)], dim=1)


def parse_pooling(name: str) -> Pooling:
    """Return the pooling of that name, or raise ConfigError."""
    for pooling in get_args(Pooling):
        if name == pooling:
            return pooling  # type: ignore[no-any-return]  # get_args is untyped
    raise ConfigError(f"pooling {name!r} is none of {', '.join(get_args(Pooling))}")
