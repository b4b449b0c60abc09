"""Modular addition with several operations, each trained by itself, and packed into one network.

Operation ``k`` answers ``(a + k b) mod p`` where its switch is on, and nothing where it is off.
What several operations answer adds up. A network of one operation uses all of itself for every
input; here a mechanism is an operation, silenced with its neurons, which are known.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mad.bench.tasks import INPUT
from mad.bench.truth.base import Truth
from mad.bench.truth.descent import descend
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError
from mad.types import Inputs

RATE: Final = 0.3
"""How often an operation is on."""

CHANGED: Final = 0.25
"""How far an answer, which counts operations that give it, must move to be another."""

MISSED: Final = 0.1
"""How far a trained operation may be from its answers, at most."""

_RATE_OF_LEARNING = 3e-2


@final
class ModularNetwork(nn.Module):
    """Two numbers below ``p``, one-hot, and switches in; how often each number was answered out.

    The stream's coordinates are no input's: the embedding is turned at random.
    """

    def __init__(self, modulus: int, operations: int, neurons: int) -> None:
        super().__init__()
        width = 2 * modulus + operations
        self.modulus, self.neurons = modulus, neurons
        self.embed = nn.Linear(width, width, bias=False)
        self.w_in = nn.Linear(width, operations * neurons)
        self.act = nn.ReLU()
        self.w_out = nn.Linear(operations * neurons, modulus, bias=False)

    def forward(self, given: Float[Tensor, "batch given"]) -> Float[Tensor, "batch answer"]:
        """Return the answers."""
        answers: Tensor = self.w_out(self.act(self.w_in(self.embed(given))))
        return answers


@final
@dataclass(frozen=True)
class ModularTask:
    """``(a + k b) mod modulus`` for ``k`` from 1 to ``operations``, each by ``neurons``.

    Each is trained for ``steps`` on all of its inputs.
    """

    modulus: int = 5
    operations: int = 4
    neurons: int = 24
    steps: int = 1_200

    def __post_init__(self) -> None:
        if not 1 <= self.operations < self.modulus:
            raise ConfigError(
                f"{self.operations} operations modulo {self.modulus} are not all different; ask "
                f"for 1 to {self.modulus - 1}"
            )

    def trained(self, seed: int) -> ModularNetwork:
        """Train all operations side by side on every input, and pack them.

        Raises:
            ConfigError: one did not learn its table.
        """
        generator = torch.Generator().manual_seed(seed)
        given, wanted = self._tables()
        sizes = (given.shape[1], self.neurons, self.modulus)
        parameters = [
            _drawn(self.operations, *sizes[:2], generator=generator),
            torch.zeros(self.operations, 1, self.neurons, requires_grad=True),
            _drawn(self.operations, *sizes[1:], generator=generator),
        ]
        optimiser = torch.optim.Adam(parameters, lr=_RATE_OF_LEARNING)
        missed = wanted
        for step in range(self.steps):
            w_in, bias, w_out = parameters
            missed = torch.relu(given @ w_in + bias) @ w_out - wanted
            loss = missed.square().mean()
            descend(
                optimiser, loss, parameters, rate=_RATE_OF_LEARNING, step=step, steps=self.steps
            )
        worst = float(missed.detach().abs().max())
        if worst > MISSED:
            raise ConfigError(
                f"an operation modulo {self.modulus} is off by {worst:.2f} after {self.steps} "
                f"steps; give it more neurons than {self.neurons}, or more steps"
            )
        return self._packed(*(one.detach() for one in parameters), generator=generator)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Return every input of one operation, and what each operation answers."""
        p = self.modulus
        first, second = torch.arange(p).repeat_interleave(p), torch.arange(p).repeat(p)
        numbers = torch.cat([torch.eye(p)[first], torch.eye(p)[second]], dim=1)
        on = torch.cat([numbers, torch.ones(p * p, 1)], dim=1)
        off = torch.cat([numbers, torch.zeros(p * p, 1)], dim=1)
        answers = [
            torch.cat([torch.eye(p)[(first + k * second) % p], torch.zeros(p * p, p)])
            for k in range(1, self.operations + 1)
        ]
        return torch.cat([on, off]), torch.stack(answers)

    @torch.no_grad()
    def _packed(
        self, w_in: Tensor, bias: Tensor, w_out: Tensor, *, generator: torch.Generator
    ) -> ModularNetwork:
        numbers, width = 2 * self.modulus, 2 * self.modulus + self.operations
        network = ModularNetwork(self.modulus, self.operations, self.neurons)
        turned = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
        read = torch.zeros(width, self.operations, self.neurons)
        read[:numbers] = w_in[:, :numbers].transpose(0, 1)
        each = torch.arange(self.operations)
        read[numbers + each, each] = w_in[:, numbers]
        network.embed.weight.copy_(turned.T)
        network.w_in.weight.copy_((turned.T @ read.flatten(1)).T)
        network.w_in.bias.copy_(bias.flatten())
        network.w_out.weight.copy_(w_out.flatten(0, 1).T)
        return network.eval()


def modular_truth(*, seed: int) -> Truth:
    """Return a network of four operations modulo five.

    Raises:
        ConfigError: an operation did not learn its table.
    """
    task = ModularTask()
    network = task.trained(seed)
    name = f"modular {seed}"
    return Truth(
        name=name,
        model=MonitoredModel.of(network, name=name, inputs=[INPUT]),
        layers=("w_in", "w_out"),
        sites=("act",),
        mechanisms=tuple(f"a + {k} b" for k in range(1, task.operations + 1)),
        draw=partial(_draw, task),
        on=partial(_on, task),
        active=partial(_active, network),
    )


def _drawn(*shape: int, generator: torch.Generator) -> Tensor:
    drawn: Tensor = torch.randn(*shape, generator=generator) * shape[-2] ** -0.5
    return drawn.requires_grad_()


def _draw(task: ModularTask, count: int, generator: torch.Generator) -> Inputs:
    numbers = torch.randint(0, task.modulus, (2, count), generator=generator)
    switches = torch.rand(count, task.operations, generator=generator) < RATE
    hot = torch.eye(task.modulus)[numbers]
    return {INPUT: torch.cat([*hot, switches.float()], dim=1)}


def _on(task: ModularTask, inputs: Inputs) -> Bool[Tensor, "batch operation"]:
    return inputs[INPUT][:, 2 * task.modulus :] > 0.5  # noqa: PLR2004  # zeros and ones


@torch.no_grad()
def _active(network: ModularNetwork, inputs: Inputs) -> Bool[Tensor, "batch operation"]:
    """Say whose neurons' share of the answers is more than a change: silent, they would lack it."""
    neurons: Tensor = network.act(network.w_in(network.embed(inputs[INPUT])))
    parts = neurons.split(network.neurons, dim=1)
    weights = network.w_out.weight.split(network.neurons, dim=1)
    shares = [part @ weight.T for part, weight in zip(parts, weights, strict=True)]
    return torch.stack(shares, dim=1).abs().amax(dim=2) > CHANGED
