"""Circuit networks as truths: a gate is a mechanism, active where silencing its neurons tells."""

from dataclasses import dataclass
from functools import partial
from typing import Final, final

import torch
from jaxtyping import Bool
from torch import Tensor

from mad.bench.tasks import INPUT
from mad.bench.truth.base import Truth
from mad.bench.truth.circuits import Circuit, random_bits, random_circuit
from mad.bench.truth.network import Built, handcoded
from mad.capture.model import MonitoredModel
from mad.types import Inputs


@final
@dataclass(frozen=True)
class Family:
    """Random circuits whose input bits are true at ``rate``, and gates on at ``most`` so often."""

    name: str
    rate: float
    most: float

    def circuit(self, seed: int) -> Circuit:
        """Draw one."""
        return random_circuit(rate=self.rate, most=self.most, seed=seed)

    def built(self, seed: int) -> Built:
        """Draw one, and write its network down."""
        return handcoded(self.circuit(seed), seed=seed)

    def truth(self, seed: int) -> Truth:
        """Draw one, and return its network with what is known of it."""
        circuit, built = self.circuit(seed), self.built(seed)
        blocks = range(len(built.module.blocks))
        name = f"{self.name} {seed}"
        return Truth(
            name=name,
            model=MonitoredModel.of(built.module, name=name, inputs=[INPUT]),
            layers=tuple(f"blocks.{one}.{part}" for one in blocks for part in ("w_in", "w_out")),
            sites=tuple(f"streams.{one}" for one in blocks),
            mechanisms=tuple(f"{gate.kind} {number}" for number, gate in enumerate(circuit.gates)),
            draw=partial(_draw, circuit, self.rate),
            on=partial(_on, circuit),
            active=partial(_active, built),
            alternatives=circuit.alternatives,
        )


DENSE: Final = Family("circuit", rate=0.5, most=0.85)
SPARSE: Final = Family("sparse_circuit", rate=0.25, most=0.5)
"""Gates that are off more often than on, as decompositions take mechanisms to be: pieces of a
dense circuit cost less where they are something else than its gates."""


def circuit_truth(*, seed: int) -> Truth:
    """Return a random dense circuit with weights written down."""
    return DENSE.truth(seed)


def _draw(circuit: Circuit, rate: float, count: int, generator: torch.Generator) -> Inputs:
    return {INPUT: random_bits(count, circuit.inputs, generator, rate=rate).float()}


def _on(circuit: Circuit, inputs: Inputs) -> Bool[Tensor, "batch gate"]:
    return circuit.on(inputs[INPUT] > 0.5)  # noqa: PLR2004  # bits are zeros and ones


def _active(built: Built, inputs: Inputs) -> Bool[Tensor, "batch gate"]:
    return built.active(inputs[INPUT])
