"""One step of Adam, in the order in which weights lie in memory."""

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim.adam import adam

from mad.components.moments import lying_like


def descend(optimiser: torch.optim.Adam, *, rate: float) -> None:
    """Do what ``optimiser.step()`` does of a fused Adam, at this learning rate.

    The fused step copies weights and moments that are laid out by their last axis there and back,
    and does not tell that it changed the weights.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
        trained = [one for one in group["params"] if one.grad is not None]
        states = [_state(optimiser, one) for one in trained]
        adam(
            [_rows(one.detach()) for one in trained],
            [_rows(_gradient(one)) for one in trained],
            [_rows(state["exp_avg"]) for state in states],
            [_rows(state["exp_avg_sq"]) for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=rate,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        increment_version(trained)


def _state(optimiser: torch.optim.Adam, parameter: Tensor) -> dict[str, Tensor]:
    state: dict[str, Tensor] = optimiser.state[parameter]
    if not state:
        # As Adam begins.
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
        state["exp_avg_sq"] = torch.zeros_like(parameter, requires_grad=False)
    return state


def _gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    assert gradient is not None
    in_order = gradient.stride() == parameter.stride()
    return gradient if in_order else lying_like(gradient, parameter)


def _rows(tensor: Tensor) -> Tensor:
    """Return a matrix as it lies in memory."""
    is_by_column = tensor.ndim == 2 and tensor.T.is_contiguous()  # noqa: PLR2004  # a matrix
    return tensor.T if is_by_column else tensor
