"""Circuits as neural networks: residual blocks in which each gate is a few known ReLU neurons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mad.bench.truth.circuits import Circuit, GateKind

CHANGED = 0.25
"""How far an answer, which is zero or one, must move to be another."""

# Each neuron is (what it adds up of its sources, bias, what it adds to the gate's wire).
_NEURONS: dict[GateKind, tuple[tuple[float, float, float], ...]] = {
    "and": ((1.0, -1.0, 1.0),),
    "or": ((1.0, 0.0, 1.0), (1.0, -1.0, -1.0)),
    "xor": ((1.0, 0.0, 1.0), (1.0, -1.0, -2.0)),
    "not": ((-1.0, 1.0, 1.0),),
}


@final
class Block(nn.Module):
    """``w_out relu(w_in x + b)``, which is added to the stream."""

    def __init__(self, width: int, neurons: int) -> None:
        super().__init__()
        self.w_in = nn.Linear(width, neurons)
        self.act = nn.ReLU()
        self.w_out = nn.Linear(neurons, width, bias=False)

    def forward(self, stream: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """Return what the block adds."""
        added: Tensor = self.w_out(self.act(self.w_in(stream)))
        return added


@final
class CircuitNetwork(nn.Module):
    """Bits, as zeros and ones, in; a number for each of the circuit's outputs out."""

    def __init__(self, inputs: int, width: int, neurons: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width, bias=False)
        self.blocks = nn.ModuleList(Block(width, count) for count in neurons)
        self.streams = nn.ModuleList(nn.Identity() for _ in neurons)
        self.head = nn.Linear(width, outputs, bias=False)

    def forward(self, bits: Float[Tensor, "batch input"]) -> Float[Tensor, "batch output"]:
        """Return the answers."""
        x = self.embed(bits)
        for block, stream in zip(self.blocks, self.streams, strict=True):
            x = stream(x + block(x))
        answers: Tensor = self.head(x)
        return answers


@final
@dataclass(frozen=True)
class Place:
    """Where a gate is computed: the neurons of one block."""

    block: int
    neurons: slice


@final
@dataclass(frozen=True)
class Built:
    """A network, and the neurons that are each gate."""

    module: CircuitNetwork
    places: tuple[Place, ...]
    directions: Float[Tensor, "wire width"]

    @torch.no_grad()
    def active(self, bits: Float[Tensor, "batch input"]) -> Bool[Tensor, "batch gate"]:
        """Say of each gate whether an answer changes when its neurons are silent."""
        whole = self.module(bits)
        changed = [(self._without(place, bits) - whole).abs().amax(dim=1) for place in self.places]
        return torch.stack(changed, dim=1) > CHANGED

    def _without(
        self, place: Place, bits: Float[Tensor, "batch input"]
    ) -> Float[Tensor, "batch output"]:
        def silence(_module: nn.Module, _given: object, found: Tensor) -> Tensor:
            kept = found.clone()
            kept[:, place.neurons] = 0.0
            return kept

        block = self.module.blocks[place.block]
        handle = block.act.register_forward_hook(silence)  # type: ignore[union-attr]  # a Block
        try:
            answers: Tensor = self.module(bits)
        finally:
            handle.remove()
        return answers


@torch.no_grad()
def handcoded(circuit: Circuit, *, seed: int = 0) -> Built:
    """Write a circuit's weights down: one block a level, one or two neurons a gate, no error.

    Wires are orthogonal directions of the stream, turned at random so that no coordinate is a wire.
    """
    wires = circuit.inputs + len(circuit.gates)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(wires, wires, generator=generator)).Q
    places = _places(circuit)
    counts = [0] * (max(circuit.levels) + 1)
    for place in places:
        counts[place.block] = max(counts[place.block], place.neurons.stop)
    module = CircuitNetwork(circuit.inputs, wires, counts, len(circuit.outputs))
    for block in module.blocks:
        for weight in block.parameters():
            weight.zero_()
    module.embed.weight.copy_(directions[: circuit.inputs].T)
    for number, (gate, place) in enumerate(zip(circuit.gates, places, strict=True)):
        block = module.blocks[place.block]
        assert isinstance(block, Block)
        read = directions[list(gate.sources)].sum(dim=0)
        write = directions[circuit.inputs + number]
        for neuron, (slope, bias, out) in enumerate(_NEURONS[gate.kind], place.neurons.start):
            block.w_in.weight[neuron] = slope * read
            block.w_in.bias[neuron] = bias
            block.w_out.weight[:, neuron] = out * write
    module.head.weight.copy_(directions[[circuit.inputs + one for one in circuit.outputs]])
    return Built(module.eval(), places, directions)


def _places(circuit: Circuit) -> tuple[Place, ...]:
    used = [0] * (max(circuit.levels) + 1)
    places = []
    for gate, level in zip(circuit.gates, circuit.levels, strict=True):
        stop = used[level] + len(_NEURONS[gate.kind])
        places.append(Place(level, slice(used[level], stop)))
        used[level] = stop
    return tuple(places)
