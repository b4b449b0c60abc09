"""Circuit networks as truths: a gate is a mechanism, active where silencing its neurons tells."""

from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor

from mad.bench.tasks import INPUT
from mad.bench.truth.base import Truth
from mad.bench.truth.circuits import Circuit, random_bits, random_circuit
from mad.bench.truth.network import Built, handcoded
from mad.capture.model import MonitoredModel
from mad.types import Inputs

RATE = 0.5
"""How often each bit of an input is true."""


def circuit_truth(*, seed: int) -> Truth:
    """Return a random circuit with weights written down."""
    circuit = random_circuit(rate=RATE, seed=seed)
    built = handcoded(circuit, seed=seed)
    blocks = range(len(built.module.blocks))
    name = f"circuit {seed}"
    return Truth(
        name=name,
        model=MonitoredModel.of(built.module, name=name, inputs=[INPUT]),
        layers=tuple(f"blocks.{one}.{part}" for one in blocks for part in ("w_in", "w_out")),
        sites=tuple(f"streams.{one}" for one in blocks),
        mechanisms=tuple(f"{gate.kind} {number}" for number, gate in enumerate(circuit.gates)),
        draw=partial(_draw, circuit),
        on=partial(_on, circuit),
        active=partial(_active, built),
        alternatives=circuit.alternatives,
    )


def _draw(circuit: Circuit, count: int, generator: torch.Generator) -> Inputs:
    return {INPUT: random_bits(count, circuit.inputs, generator, rate=RATE).float()}


def _on(circuit: Circuit, inputs: Inputs) -> Bool[Tensor, "batch gate"]:
    return circuit.on(inputs[INPUT] > 0.5)  # noqa: PLR2004  # bits are zeros and ones


def _active(built: Built, inputs: Inputs) -> Bool[Tensor, "batch gate"]:
    return built.active(inputs[INPUT])
