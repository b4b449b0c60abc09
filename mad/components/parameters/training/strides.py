"""Strides that a compiler is held to.

Left alone it lays out what it keeps as it finds best for one loop, and the next loop then reads
numbers that are far apart, one at a time: the sums of networks' gradients took ten times as long.
"""

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor


def side_by_side(numbers: Float[Tensor, "component place"]) -> Float[Tensor, "component place"]:
    """Have a component's numbers side by side in memory, whatever compiles this."""
    # What has its strides named is laid out so; contiguous() alone is dropped as a copy.
    return numbers.contiguous().as_strided(numbers.shape, (numbers.shape[1], 1))


def kept_side_by_side(
    numbers: Float[Tensor, "component place"],
) -> Float[Tensor, "component place"]:
    """Return the numbers; their gradient will lie side by side."""
    found: Tensor = _SideBySide.apply(numbers)  # type: ignore[no-untyped-call]
    return found


@final
class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:  # noqa: ANN401, ARG004  # autograd's
        return numbers.view_as(numbers)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # noqa: ANN401, ARG004  # autograd's
        return side_by_side(slope)
