"""The networks of scalar importance, differentiated by hand for a compiler.

What autograd records keeps each unit of each input, or computes the error function four times. Here
nothing is kept but inner activations: units and slopes are computed again where they are summed,
over inputs for the networks' own gradients and over units for that of the activation.
"""

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.parameters.training.gelu import gelu, slope
from mad.components.parameters.training.strides import side_by_side


def logits(
    inner: Float[Tensor, "component place"],
    w_in: Float[Tensor, "component hidden"],
    b_in: Float[Tensor, "component hidden"],
    w_out: Float[Tensor, "component hidden"],
) -> Float[Tensor, "component place"]:
    """Return ``w_out . gelu(inner * w_in + b_in)`` of each component."""
    found: Tensor = _Networks.apply(inner, w_in, b_in, w_out)  # type: ignore[no-untyped-call]
    return found


@final
class _Networks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        inner: Tensor,
        w_in: Tensor,
        b_in: Tensor,
        w_out: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(inner, w_in, b_in, w_out)
        return (gelu(_before(inner, w_in, b_in)) * w_out.unsqueeze(-1)).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        inner, w_in, b_in, w_out = ctx.saved_tensors
        above = side_by_side(above)
        before = _before(inner, w_in, b_in)
        slopes, at = slope(before), above.unsqueeze(1)
        of_inner = (slopes * (w_in * w_out).unsqueeze(-1)).sum(dim=1) * above
        of_before = slopes * at
        of_b = of_before.sum(dim=2) * w_out
        of_w = (of_before * inner.unsqueeze(1)).sum(dim=2) * w_out
        return of_inner, of_w, of_b, (gelu(before) * at).sum(dim=2)


def _before(inner: Tensor, w_in: Tensor, b_in: Tensor) -> Tensor:
    return inner.unsqueeze(1) * w_in.unsqueeze(-1) + b_in.unsqueeze(-1)
