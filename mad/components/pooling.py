"""Positions of one input, as of a sequence or a convolutional map, to one vector an input."""

from collections.abc import Mapping
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
    the first of ``poolings``.
    """
    positions = _positions(activations)
    match _settled(activations, pooling):
        case "flatten":
            return activations.reshape(activations.shape[0], -1)
        case "mean":
            return positions.mean(dim=1)
        case "max":
            return positions.amax(dim=1)
        case "last":
            return positions[:, -1]
        case "mean_max":
            return torch.cat([positions.mean(dim=1), positions.amax(dim=1)], dim=1)


def by_position(
    activations: Float[Tensor, "batch ..."], pooling: Pooling
) -> Float[Tensor, "vector coordinate"]:
    """Return the vector of every position of every input, where ``pooling`` makes one of them.

    So it is for ``mean``, ``max`` and ``last``. Otherwise vectors are those of ``pool``, for which
    there is no position with as many coordinates.
    """
    match _settled(activations, pooling):
        case "mean" | "max" | "last":
            return _positions(activations).flatten(0, 1)
        case _:
            return pool(activations, pooling)


def poolings(activations: Float[Tensor, "batch ..."], pooling: Pooling) -> Mapping[str, Pooling]:
    """Return the poolings to look at activations of this shape through, by suffix of the view.

    One, with no suffix, unless it is ``auto``. That stands for ``mean_max`` of maps. Of sequences
    it stands for ``last``, where the answer is made and which averages over the others drown, and
    ``max``, for what acts at any position: the two together find more than either.
    """
    if pooling != "auto":
        return {"": pooling}
    settled = _settled(activations, pooling)
    has_others = settled == "last" and activations.shape[1] > 1
    return {"": settled, "max": "max"} if has_others else {"": settled}


def unpool(
    change: Float[Tensor, "batch coordinate"],
    activations: Float[Tensor, "batch ..."],
    pooling: Pooling,
) -> Float[Tensor, "batch ..."]:
    """Return what to add to activations so that their pooled vectors change as asked.

    The inverse of pooling that disturbs positions evenly: ``last`` changes the last position,
    ``mean`` and ``max`` every position alike, and ``mean_max`` scales and shifts each feature over
    its positions, so that the pattern over positions stays. It is linear in the change.
    Law: ``pool(a + unpool(c, a)) == pool(a) + c``; where a ``mean_max`` change asks for a mean
    above the maximum, which nothing has, only the mean becomes what was asked.
    """
    settled = _settled(activations, pooling)
    if settled == "flatten":
        return change.reshape(activations.shape)
    added = _spread(change.unsqueeze(1), _positions(activations), settled)
    is_map = activations.ndim > 3  # noqa: PLR2004  # channels before positions
    return (added.transpose(1, 2) if is_map else added).reshape(activations.shape)


def _spread(
    change: Float[Tensor, "batch 1 coordinate"],
    by_position: Float[Tensor, "batch position feature"],
    pooling: Literal["mean", "max", "last", "mean_max"],
) -> Float[Tensor, "batch position feature"]:
    match pooling:
        case "mean" | "max":
            return change.expand_as(by_position)
        case "last":
            return torch.cat([torch.zeros_like(by_position)[:, 1:], change], dim=1)
        case "mean_max":
            mean, largest = change.chunk(2, dim=2)
            share = _shares(by_position)
            return share * mean + (1 - share) * largest


def _shares(
    by_position: Float[Tensor, "batch position feature"],
) -> Float[Tensor, "batch position feature"]:
    """Return how far each position is below the maximum, in units of how far the mean is.

    Law: 0 at a maximum, and 1 on average, so that the mean and the maximum can move apart.
    """
    below = by_position.amax(dim=1, keepdim=True) - by_position
    gap = below.mean(dim=1, keepdim=True)
    # Where all positions are equal, the first stands for the maximum.
    positions = by_position.shape[1]
    even = torch.full_like(below, positions / max(positions - 1, 1))
    even[:, 0] = 0.0 if positions > 1 else 1.0
    return torch.where(gap > 0, below / gap.clamp_min(torch.finfo(gap.dtype).tiny), even)


def _positions(
    activations: Float[Tensor, "batch ..."],
) -> Float[Tensor, "batch position feature"]:
    match activations.ndim:
        case 1 | 2:
            return activations.reshape(activations.shape[0], 1, -1)
        case 3:
            return activations
        case _:
            return activations.flatten(2).transpose(1, 2)


def _settled(
    activations: Float[Tensor, "batch ..."], pooling: Pooling
) -> Literal["flatten", "mean", "max", "last", "mean_max"]:
    """Return the pooling to apply to activations of this shape; there is none without positions."""
    if activations.ndim <= 2:  # noqa: PLR2004  # batch and features
        return "flatten"
    if pooling == "auto":
        return "last" if activations.ndim == 3 else "mean_max"  # noqa: PLR2004  # a sequence
    return pooling


def parse_pooling(name: str) -> Pooling:
    """Return the pooling of that name, or raise ConfigError."""
    for pooling in get_args(Pooling):
        if name == pooling:
            return pooling  # type: ignore[no-any-return]  # get_args is untyped
    raise ConfigError(f"pooling {name!r} is none of {', '.join(get_args(Pooling))}")
