"""Random Boolean circuits: gates over shared inputs, and outputs that share gates."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool
from torch import Tensor

from mad.errors import ConfigError

GateKind: TypeAlias = Literal["and", "or", "xor", "not"]

_TRIES = 2_000


@final
@dataclass(frozen=True)
class Gate:
    """One gate; ``sources`` are wires: the circuit's inputs first, then its gates in order."""

    kind: GateKind
    sources: tuple[int, ...]

    def of(self, wires: Bool[Tensor, "batch wire"]) -> Bool[Tensor, " batch"]:
        """Return what the gate gives for the wires so far."""
        first, last = wires[:, self.sources[0]], wires[:, self.sources[-1]]
        match self.kind:
            case "and":
                return first & last
            case "or":
                return first | last
            case "xor":
                return first ^ last
            case "not":
                return ~first


@final
@dataclass(frozen=True)
class Circuit:
    """Gates in an order in which each reads only earlier wires; ``outputs`` are some of them."""

    inputs: int
    gates: tuple[Gate, ...]
    outputs: tuple[int, ...]

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """How many gates lie before each gate on the longest way to it."""
        found: list[int] = []
        for gate in self.gates:
            above = [found[wire - self.inputs] + 1 for wire in gate.sources if wire >= self.inputs]
            found.append(max(above, default=0))
        return tuple(found)

    def on(
        self, bits: Bool[Tensor, "batch input"], *, ablated: int | None = None
    ) -> Bool[Tensor, "batch gate"]:
        """Return what each gate gives; an ablated one gives false."""
        wires = bits
        for number, gate in enumerate(self.gates):
            given = gate.of(wires) & (number != ablated)
            wires = torch.cat([wires, given.unsqueeze(1)], dim=1)
        return wires[:, self.inputs :]

    def answers(
        self, bits: Bool[Tensor, "batch input"], *, ablated: int | None = None
    ) -> Bool[Tensor, "batch output"]:
        """Return the outputs, perhaps with one gate ablated."""
        return self.on(bits, ablated=ablated)[:, list(self.outputs)]

    def active(self, bits: Bool[Tensor, "batch input"]) -> Bool[Tensor, "batch gate"]:
        """Say of each gate whether an output changes when it is ablated."""
        whole = self.answers(bits)
        changed = [
            (self.answers(bits, ablated=number) != whole).any(dim=1)
            for number in range(len(self.gates))
        ]
        return torch.stack(changed, dim=1)

    @cached_property
    def alternatives(self) -> tuple[tuple[int, int, int], ...]:
        """Outputs that are true if either of two gates is, which are no outputs; each way round."""
        found = []
        for number in self.outputs:
            gate = self.gates[number]
            first, last = (wire - self.inputs for wire in (gate.sources[0], gate.sources[-1]))
            hidden = min(first, last) >= 0 and not {first, last} & set(self.outputs)
            if gate.kind == "or" and hidden:
                found += [(number, first, last), (number, last, first)]
        return tuple(found)


def random_circuit(
    *,
    inputs: int = 16,
    sizes: tuple[int, ...] = (7, 6, 3),
    rate: float = 0.5,
    most: float = 0.85,
    seed: int = 0,
) -> Circuit:
    """Draw gates level by level, ``sizes`` of each, until all of them do something of their own.

    Each gate is on in 3 % to ``most`` of inputs whose bits are true at ``rate``, active in at least
    3 %, and no two give (nearly) the same. Every gate that no other reads is an output, and so are
    two that others read too. One output is an OR of two gates that are no outputs.

    Raises:
        ConfigError: no such circuit was found, or there are too few inputs or gates of a level.
    """
    if min(inputs, *sizes[:-1]) < 2 or len(sizes) < 2:  # noqa: PLR2004  # a gate reads two
        raise ConfigError(
            f"a circuit of {inputs} inputs and levels of {sizes} gates has too few to choose two "
            "from: ask for two levels or more, and at least two of each but the last"
        )
    generator = torch.Generator().manual_seed(seed)
    bits = random_bits(2_048, inputs, generator, rate=rate)
    for _ in range(_TRIES):
        drawn = _draw(inputs, sizes, generator)
        if _is_telling(drawn, bits, most):
            return drawn
    raise ConfigError(
        f"no circuit of {sum(sizes)} telling gates over {inputs} inputs in {_TRIES} tries: ask for "
        "more inputs or fewer gates"
    )


def random_bits(
    count: int, inputs: int, generator: torch.Generator, *, rate: float
) -> Bool[Tensor, "batch input"]:
    """Draw inputs whose bits are true at a rate, each by itself."""
    return torch.rand(count, inputs, generator=generator) < rate


def _draw(inputs: int, sizes: tuple[int, ...], generator: torch.Generator) -> Circuit:
    gates: list[Gate] = []
    for level, size in enumerate(sizes):
        start, before = inputs + len(gates), inputs + sum(sizes[: max(level - 1, 0)])
        for place in range(size):
            kind = _kind(level, place, generator)
            # A gate of each level reads one of the level before, so that levels are depths.
            first = _below(before, start, generator) if level else _below(0, inputs, generator)
            last = first
            while last == first and kind != "not":
                last = _below(before if kind == "or" and level else 0, start, generator)
            gates.append(Gate(kind, (first,) if kind == "not" else (first, last)))
    read = {wire - inputs for gate in gates for wire in gate.sources}
    shared = torch.randperm(len(gates), generator=generator).tolist()
    outputs = [number for number in range(len(gates)) if number not in read]
    outputs += [number for number in shared if number in read][:2]
    return Circuit(inputs, tuple(gates), tuple(sorted(outputs)))


def _kind(level: int, place: int, generator: torch.Generator) -> GateKind:
    kinds: tuple[GateKind, ...] = ("and", "and", "or", "xor", "not")
    if level and place == 0:
        return "or"
    return kinds[_below(0, len(kinds), generator)]


def _below(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high, (), generator=generator))


def _is_telling(circuit: Circuit, bits: Bool[Tensor, "batch input"], most: float) -> bool:
    if not circuit.alternatives:
        return False
    on = circuit.on(bits)
    rates = on.double().mean(dim=0)
    if rates.min() < 0.03 or rates.max() > most:  # noqa: PLR2004  # as promised
        return False
    alike = torch.corrcoef(torch.cat([bits, on], dim=1).double().T).abs().fill_diagonal_(0)
    # A NOT of an input is that input; other gates must not repeat a wire.
    own = [n + circuit.inputs for n, gate in enumerate(circuit.gates) if gate.kind != "not"]
    if alike[own].max() > 0.95:  # noqa: PLR2004  # nearly the same
        return False
    return bool(circuit.active(bits).double().mean(dim=0).min() > 0.03)  # noqa: PLR2004  # as promised
