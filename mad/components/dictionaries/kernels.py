"""The arithmetic of dictionaries: where their time goes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.dictionaries.latents import Latents


def affine(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
) -> Float[Tensor, "batch component"]:
    """Return ``source @ weight + bias``, with gradients."""
    return source @ weight + bias


def largest(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    k: int,
) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
    """Return the k largest of ``source @ weight + bias`` and their components, ascending."""
    values, components = torch.topk(affine(source, weight, bias), k, dim=1)
    components, order = components.sort(dim=1)
    return values.gather(1, order), components


def thresholded(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    threshold: Float[Tensor, " component"],
) -> Latents:
    """Return the entries of ``source @ weight + bias`` that exceed their component's threshold."""
    before = affine(source, weight, bias)
    return Latents.where(before > threshold, before)


def to_unit_length(directions: Float[Tensor, "component coordinate"]) -> None:
    """Scale each row to length one, in place and unseen by gradients."""
    with torch.no_grad():
        directions.div_(directions.norm(dim=1, keepdim=True).clamp_min(1e-8))
