"""Five features in two dimensions, written and read by one parameter: a toy model of superposition.

Feature ``i`` is written along corner ``i`` of a pentagon and read off it again; a bias and a ReLU
clear what neighbours leave there. It is the solution that training finds (Elhage et al. 2022).
"""

import math

import torch
from torch import Tensor, nn

FEATURES = 5
NEVER = 4
"""The feature that trusted inputs never have."""


class Pentagon(nn.Module):
    """Writes an input's features into two dimensions, and reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.write = nn.Linear(FEATURES, 2, bias=False)
        self.read = nn.Linear(2, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.read(self.write(x)))


def pentagon() -> Pentagon:
    """Return the model, with weights in closed form."""
    module = Pentagon()
    angles = 2 * math.pi * torch.arange(FEATURES) / FEATURES
    corners = torch.stack([angles.cos(), angles.sin()])
    module.write.weight.data = corners.clone()
    module.read.weight.data = corners.T.contiguous()
    module.read.bias.data.fill_(-math.cos(2 * math.pi / FEATURES))
    return module.eval()


def usual(count: int, *, seed: int, share: float = 0.2) -> Tensor:
    """Return inputs with any features but one."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, FEATURES, generator=generator)
    x *= torch.rand(count, FEATURES, generator=generator) < share
    x[:, NEVER] = 0.0
    return x


def alone(count: int, *, feature: int, seed: int) -> Tensor:
    """Return inputs with one feature, of some strength, and no other."""
    x = torch.zeros(count, FEATURES)
    generator = torch.Generator().manual_seed(seed)
    x[:, feature] = 0.3 + 0.7 * torch.rand(count, generator=generator)
    return x
