"""The difference of two models' weights, expressed in the subcomponents of a decomposition."""

from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from mad.components.base import Decomposition
from mad.components.joined import Joined
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.layers import matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.types import Site

_RELATIVE: Final = 1e-10
"""Combinations of subcomponents that add up to less than this, of what others do, are none."""


@final
@dataclass(frozen=True)
class Expressed:
    """How one layer's matrix has changed: ``sum of factor[c] * outer(v[:, c], u[c])``, and a rest.

    ``change`` is the squared size of the difference over that of the first matrix; ``explained``
    the share of the difference's squares that the sum takes away, NaN where nothing changed. The
    factors are the smallest of those that leave the least; 0.1 says that a subcomponent has become
    a tenth stronger. ``sizes`` are the lengths of the summands, over that of the difference.
    """

    layer: Site
    change: float
    explained: float
    factors: Float64[Tensor, " component"]
    sizes: Float64[Tensor, " component"]


def weights_of(
    decomposition: Decomposition, first: nn.Module, second: nn.Module
) -> tuple[Expressed, ...]:
    """Express what has changed in every layer that the decomposition has pieces of, if any."""
    whole = decomposition.parts if isinstance(decomposition, Joined) else (decomposition,)
    return tuple(
        expressed(
            layer.parts, matrix_of(first, layer.parts.layer), matrix_of(second, layer.parts.layer)
        )
        for part in whole
        if isinstance(part, ParameterDecomposition)
        for layer in part.layers
    )


def expressed(
    parts: Subcomponents,
    first: Float[Tensor, "source target"],
    second: Float[Tensor, "source target"],
) -> Expressed:
    """Project ``second - first`` on the subcomponents, by least squares.

    Time grows with the cube of their number, and memory with its square.
    """
    v, u = parts.v.double(), parts.u.double()
    difference = second.double() - first.double()
    # Inner products of the summands, without a summand ever being made.
    gram = (v.T @ v) * (u @ u.T)
    shares = ((v.T @ difference) * u).sum(dim=1)
    factors = torch.linalg.lstsq(
        gram, shares.unsqueeze(1), rcond=_RELATIVE, driver="gelsd"
    ).solution.squeeze(1)
    total = difference.square().sum()
    rest = difference - (v * factors) @ u
    tiny = torch.finfo(torch.float64).tiny
    explained = float(1 - rest.square().sum() / total) if total > 0 else float("nan")
    return Expressed(
        parts.layer.name,
        float(total / first.double().square().sum().clamp_min(tiny)),
        explained,
        factors,
        factors.abs() * gram.diagonal().sqrt() / total.sqrt().clamp_min(tiny),
    )
