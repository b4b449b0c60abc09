"""What an Adam optimiser keeps from step to step, as named tensors to store and take back."""

from collections.abc import Mapping

import torch
from torch import Tensor

_PREFIX = "optimiser."


def moments(optimiser: torch.optim.Adam) -> dict[str, Tensor]:
    """Return step counts and moments, ``optimiser.NUMBER.NAME``; they are not copied."""
    return {
        f"{_PREFIX}{number}.{name}": torch.as_tensor(value)
        for number, of_one in optimiser.state_dict()["state"].items()
        for name, value in of_one.items()
    }


def restore_moments(optimiser: torch.optim.Adam, state: Mapping[str, Tensor]) -> None:
    """Go on from what ``moments`` returned, among other entries; KeyError if it is of another."""
    parameters = dict(enumerate(one for group in optimiser.param_groups for one in group["params"]))
    kept: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith(_PREFIX):
            number, _, name = key.removeprefix(_PREFIX).partition(".")
            own = lying_like(value, parameters[int(number)])
            kept.setdefault(int(number), {})[name] = own
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": kept, "param_groups": groups})


def lying_like(moment: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy of the moment of a parameter, in the same order in memory."""
    if moment.shape != parameter.shape:
        return moment.clone()
    return torch.empty_like(parameter, requires_grad=False).copy_(moment)
