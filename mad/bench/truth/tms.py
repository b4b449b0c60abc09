"""Toy models of superposition (Elhage et al. 2022): sparse features through a narrow layer.

``xhat = relu(W^T W x + b)``, with one matrix that is read and written; with an identity inserted,
``relu(W^T I W x + b)``, whose mechanism is known too: a matrix of full rank. Features are uniform
on [0, 1] with a probability of 0.05, and else zero.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mad.errors import ConfigError

RATE = 0.05
"""How often a feature is on."""

LEARNING_RATE, DECAY = 5e-3, 0.01


@final
class Tms(nn.Module):
    """Linear layers ``linear1`` and ``linear2`` of one matrix; between them maybe ``hidden``."""

    def __init__(
        self,
        weight: Float[Tensor, "narrow feature"],
        bias: Float[Tensor, " feature"],
        *,
        identity: bool = False,
    ) -> None:
        super().__init__()
        narrow, features = weight.shape
        self.linear1 = nn.Linear(features, narrow, bias=False)
        self.hidden = nn.Linear(narrow, narrow, bias=False) if identity else None
        self.linear2 = nn.Linear(narrow, features)
        self.linear1.weight = nn.Parameter(weight, requires_grad=False)
        self.linear2.weight = nn.Parameter(weight.T, requires_grad=False)
        self.linear2.bias = nn.Parameter(bias, requires_grad=False)
        if self.hidden is not None:
            self.hidden.weight = nn.Parameter(torch.eye(narrow), requires_grad=False)

    def forward(self, given: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        """Reconstruct features."""
        narrow = self.linear1(given)
        if self.hidden is not None:
            narrow = self.hidden(narrow)
        return torch.relu(self.linear2(narrow))


def sparse(
    rows: int, features: int, generator: torch.Generator, *, rate: float = RATE
) -> Float[Tensor, "row feature"]:
    """Draw inputs whose features are uniform on [0, 1] when they are on."""
    drawn = torch.rand(2, rows, features, generator=generator)
    return drawn[0] * (drawn[1] < rate)


@final
@dataclass(frozen=True)
class TmsTask:
    """Sizes of a model, and of the batches that it is trained on."""

    features: int
    narrow: int
    batch: int
    identity: bool = False
    steps: int = 10_000

    def trained(self, seed: int) -> Tms:
        """Train a model as published: AdamW at a constant rate."""
        generator = torch.Generator().manual_seed(seed)
        bound = self.features**-0.5  # as nn.Linear begins
        weight = (2 * torch.rand(self.narrow, self.features, generator=generator) - 1) * bound
        parameters = [weight.requires_grad_(), torch.zeros(self.features, requires_grad=True)]
        optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=DECAY, fused=True)
        for _ in range(self.steps):
            batch = sparse(self.batch, self.features, generator)
            output = torch.relu(batch @ parameters[0].T @ parameters[0] + parameters[1])
            slopes = torch.autograd.grad((output - batch).square().mean(), parameters)
            for one, slope in zip(parameters, slopes, strict=True):
                one.grad = slope
            optimiser.step()
        weight, bias = (one.detach() for one in parameters)
        return Tms(weight, bias, identity=self.identity)

    def representing(self, seed: int) -> tuple[Tms, int]:
        """Return the first model from a seed on that represents all features, and its seed.

        Raises:
            ConfigError: none of twenty did.
        """
        for tried in range(seed, seed + 20):
            model = self.trained(tried)
            if represented(model).all():
                return model, tried
        raise ConfigError(f"no seed from {seed} to {seed + 19} gave a model of all features")


def represented(model: Tms) -> Float[Tensor, " feature"]:
    """Whether each feature, on its own, is what the model answers most, by half or more."""
    features = model.linear1.in_features
    with torch.no_grad():
        output: Tensor = model(torch.eye(features))
    own = output.diagonal()
    others = output.masked_fill(torch.eye(features, dtype=torch.bool), 0.0)
    return (own > 0.5) & (own > others.amax(dim=1))  # noqa: PLR2004
