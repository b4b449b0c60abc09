"""One step of Adam, in the order in which weights lie in memory."""

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim.adam import adam

from mad.components.moments import Adam, lying_like


def descend(optimiser: Adam, *, rate: float) -> None:
    """Do what ``step()`` does of torch's fused Adam as it is by default, at this learning rate.

    The fused step copies weights and moments that are laid out by their last axis there and back,
    and does not tell that it changed the weights.
    """
    trained = [one for one in optimiser.parameters if one.grad is not None]
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
        beta1=0.9,
        beta2=0.999,
        lr=rate,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )
    increment_version(trained)


def _state(optimiser: Adam, parameter: Tensor) -> dict[str, Tensor]:
    state = optimiser.state.setdefault(parameter, {})
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
