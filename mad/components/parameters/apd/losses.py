"""What an attribution-based decomposition is trained for."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.parameters.apd.components import Components
from mad.components.parameters.apd.plan import ApdPlan, HiddenPlan

_TINY: Final = 1e-16
"""Keeps the slope of a root finite where a piece is zero."""


class Terms(NamedTuple):
    """The terms of the loss, before their coefficients."""

    faithfulness: Float[Tensor, ""]
    minimality: Float[Tensor, ""]
    simplicity: Float[Tensor, ""]
    hidden: Float[Tensor, ""]

    def total(self, plan: ApdPlan) -> Float[Tensor, ""]:
        """Return the loss."""
        hidden = 0.0 if plan.hidden is None else plan.hidden.coefficient
        return (
            plan.faithfulness_coefficient * self.faithfulness
            + plan.minimality_coefficient * self.minimality
            + plan.simplicity_coefficient * self.simplicity
            + hidden * self.hidden
        )


def unfaithfulness(
    components: Components, matrices: Mapping[str, Float[Tensor, "_ _"]]
) -> Float[Tensor, ""]:
    """Return the mean square of what all components miss of all weights (equation 4)."""
    missed = torch.zeros(())
    for name, one in components.items():
        whole = one.a.transpose(0, 1).flatten(1) @ one.b.flatten(0, 1)
        missed = missed + (matrices[name] - whole).square().sum()
    return missed / _size(components)


def simplicity(
    components: Components, used: Float[Tensor, "batch component"], *, p: float
) -> Float[Tensor, ""]:
    """Return the mean over inputs of the Schatten norms of what they use, to the power ``p``.

    The product of the lengths of a column of ``a`` and its row of ``b`` bounds the singular values,
    and is as large where the factors are orthogonal (equation 9); over the number of weights.
    """
    often = used.mean(dim=0)
    total = torch.zeros(())
    for one in components.values():
        squares = one.a.square().sum(dim=1) * one.b.square().sum(dim=2)
        total = total + (often * (squares + _TINY).pow(p / 2).sum(dim=1)).sum()
    return total / _size(components)


def hidden_error(
    plan: HiddenPlan,
    wanted: Mapping[str, Float[Tensor, "batch ..."]],
    found: Mapping[str, Float[Tensor, "batch ..."]],
) -> Float[Tensor, ""]:
    """Return the mean square of what used components miss of what layers return, per coordinate."""
    missed, numbers = torch.zeros(()), 0
    for name in plan.layers:
        ours, theirs = found[name], wanted[name]
        if plan.relu:
            ours, theirs = ours.relu(), theirs.relu()
        missed = missed + (ours - theirs).square().sum()
        numbers += theirs.numel()
    return missed / numbers


def _size(components: Components) -> int:
    return sum(one.layer.source * one.layer.target for one in components.values())
