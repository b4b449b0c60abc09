"""The two hard sigmoids of causal importance: one for masks, one for the penalty.

Both are the same between 0 and 1; they differ in what is learnt beyond. The forms are the stable,
later ones (goodfire-ai/spd of 2026, and Bushnaq et al. 2026): no mask is ever negative.
"""

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor


@final
class _LowerLeaky(torch.autograd.Function):
    """Clamps; below zero a gradient that would raise the logit leaks through, a hundredth of it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(logits)
        return logits.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # noqa: ANN401
        (logits,) = ctx.saved_tensors
        below = (0.01 * slope).clamp(max=0.0)
        inside = torch.where(logits <= 1.0, slope, torch.zeros_like(slope))
        return torch.where(logits <= 0.0, below, inside)


def lower_leaky(logits: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return the importance that masks are made of, between 0 and 1."""
    result: Tensor = _LowerLeaky.apply(logits)  # type: ignore[no-untyped-call]
    return result


def upper_leaky(logits: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return the importance that the penalty counts: above 1 it rises by a hundredth."""
    return torch.where(logits > 1.0, 1.0 + 0.01 * (logits - 1.0), logits.clamp(0.0, 1.0))
