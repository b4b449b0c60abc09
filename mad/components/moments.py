"""What an Adam optimiser keeps from step to step, as named tensors to store and take back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

_PREFIX = "optimiser."


@final
@dataclass(frozen=True, eq=False)
class Adam:
    """Parameters that Adam trains, and what it keeps of each by the names that torch has for it.

    Making torch's own optimiser loads torch's compiler, which takes as long as loading torch.
    """

    parameters: Sequence[Tensor]
    state: dict[Tensor, dict[str, Tensor]] = field(default_factory=dict)


def moments(optimiser: Adam | torch.optim.Adam) -> dict[str, Tensor]:
    """Return step counts and moments, ``optimiser.NUMBER.NAME``; they are not copied."""
    return {
        f"{_PREFIX}{number}.{name}": torch.as_tensor(value)
        for number, parameter in enumerate(_parameters(optimiser))
        for name, value in optimiser.state.get(parameter, {}).items()
    }


def restore_moments(optimiser: Adam | torch.optim.Adam, state: Mapping[str, Tensor]) -> None:
    """Go on from what ``moments`` returned, among other entries; KeyError if it is of another."""
    parameters = dict(enumerate(_parameters(optimiser)))
    optimiser.state.clear()
    for key, value in state.items():
        if key.startswith(_PREFIX):
            number, _, name = key.removeprefix(_PREFIX).partition(".")
            parameter = parameters[int(number)]
            optimiser.state.setdefault(parameter, {})[name] = lying_like(value, parameter)


def _parameters(optimiser: Adam | torch.optim.Adam) -> Sequence[Tensor]:
    if isinstance(optimiser, Adam):
        return optimiser.parameters
    return [one for group in optimiser.param_groups for one in group["params"]]


def lying_like(moment: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy of the moment of a parameter, in the same order in memory."""
    if moment.shape != parameter.shape:
        return moment.clone()
    return torch.empty_like(parameter, requires_grad=False).copy_(moment)
