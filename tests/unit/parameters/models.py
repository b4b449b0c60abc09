"""Small models with layers of every kind that can be decomposed."""

import math

import torch
from torch import Tensor, nn


class Tied(nn.Module):
    """Five features in two dimensions, read by a pentagon and written by its transpose."""

    def __init__(self, sides: int = 5) -> None:
        super().__init__()
        self.linear1 = nn.Linear(sides, 2, bias=False)
        self.linear2 = nn.Linear(2, sides)
        angle = torch.arange(sides) * 2 * math.pi / sides
        with torch.no_grad():
            self.linear1.weight.copy_(1.2 * torch.stack([angle.cos(), angle.sin()]))
            self.linear2.bias.fill_(-0.3)
        self.linear2.weight = nn.Parameter(self.linear1.weight.detach().T)

    def forward(self, given: Tensor) -> Tensor:
        return torch.relu(self.linear2(self.linear1(given)))


class Pictures(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(2, 3, kernel_size=3, stride=2, padding=1)
        self.read = nn.Linear(3 * 3 * 3, 4)

    def forward(self, given: Tensor) -> Tensor:
        output: Tensor = self.read(torch.tanh(self.seen(given)).flatten(1))
        return output


class Conv1D(nn.Module):
    """A linear layer that keeps its matrix transposed, as transformers' GPT-2 does."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(source, target) / math.sqrt(source))
        self.bias = nn.Parameter(torch.randn(target))

    def forward(self, given: Tensor) -> Tensor:
        return given @ self.weight + self.bias


class Words(nn.Module):
    """An embedding, a transposed linear layer, and a reading tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.mixed = Conv1D(4, 4)
        self.read = nn.Linear(4, 7, bias=False)
        self.read.weight = self.embed.weight

    def forward(self, given: Tensor) -> Tensor:
        output: Tensor = self.read(torch.tanh(self.mixed(self.embed(given))))
        return output


class Mixed(nn.Module):
    """Patches, then tokens of them that attend, then numbers: layers of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over patches."""
        tokens = self.patches(x).flatten(2).transpose(1, 2).tanh()
        weights = (self.query(tokens) @ self.key(tokens).transpose(1, 2)).softmax(dim=2)
        answer: Tensor = self.out((weights @ tokens).mean(dim=1))
        return answer
