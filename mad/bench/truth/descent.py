"""A step of the training of a known model, at a rate that falls to nothing along a cosine."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def descend(  # what is trained, and where on its way
    optimiser: torch.optim.Optimizer,
    loss: Float[Tensor, ""],
    parameters: Sequence[Tensor],
    *,
    rate: float,
    step: int,
    steps: int,
) -> None:
    """Take the step after ``step`` of ``steps``; ``rate`` is that of the first."""
    for one, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        one.grad = slope
    for group in optimiser.param_groups:
        group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
    optimiser.step()
