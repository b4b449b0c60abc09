"""Circuits and their networks: literal truth tables, and ablation as the truth about mechanisms."""

from itertools import product

import pytest
import torch
from torch import Tensor

from mad.bench.truth.circuits import Circuit, Gate, random_bits, random_circuit
from mad.bench.truth.network import handcoded
from mad.errors import ConfigError

EVERY_PAIR = torch.tensor([[False, False], [False, True], [True, False], [True, True]])

# Two gates read the first AND; the first output is the OR of both.
SMALL = Circuit(
    inputs=3,
    gates=(
        Gate("and", (0, 1)),
        Gate("not", (2,)),
        Gate("xor", (3, 2)),
        Gate("or", (3, 4)),
    ),
    outputs=(2, 3),
)
EVERY_INPUT = torch.tensor(list(product([False, True], repeat=3)))


@pytest.mark.parametrize(
    ("kind", "truth"), [("and", "0001"), ("or", "0111"), ("xor", "0110"), ("not", "1100")]
)
def test_gates_have_their_truth_tables(kind: str, truth: str) -> None:
    given = Gate(kind, (0, 1) if kind != "not" else (0,)).of(EVERY_PAIR)  # type: ignore[arg-type]  # literal
    assert given.tolist() == [letter == "1" for letter in truth]


def test_a_circuit_gives_its_outputs() -> None:
    a, b, c = EVERY_INPUT.T
    wanted = torch.stack([(a & b) ^ c, (a & b) | ~c], dim=1)
    assert SMALL.answers(EVERY_INPUT).equal(wanted)
    assert SMALL.levels == (0, 0, 1, 1)


def test_a_gate_is_active_where_an_output_would_change_without_it() -> None:
    a, b, c = EVERY_INPUT.T
    active = SMALL.active(EVERY_INPUT)
    # The AND always shows in the XOR; the NOT only where the AND does not make the OR true anyway.
    assert active[:, 0].equal(a & b)
    assert active[:, 1].equal(~c & ~(a & b))
    assert active[:, 2].equal((a & b) ^ c)
    assert active[:, 3].equal((a & b) | ~c)


@pytest.mark.parametrize("seed", range(2))
def test_written_weights_compute_the_circuit_and_silent_neurons_are_an_ablated_gate(
    seed: int,
) -> None:
    circuit = SMALL if seed == 0 else random_circuit(inputs=10, sizes=(5, 4, 2), seed=seed)
    built = handcoded(circuit, seed=seed)
    bits = random_bits(500, circuit.inputs, torch.Generator().manual_seed(seed), rate=0.5)
    answers = answered(built.module, bits)
    torch.testing.assert_close(answers, circuit.answers(bits).float(), atol=1e-5, rtol=0.0)
    assert built.active(bits.float()).equal(circuit.active(bits))


def answered(module: torch.nn.Module, bits: Tensor) -> Tensor:
    with torch.no_grad():
        answers: Tensor = module(bits.float())
    return answers


def test_gates_of_a_random_circuit_each_do_something_of_their_own() -> None:
    circuit = random_circuit(seed=4)
    assert len(circuit.gates) == 16
    assert circuit.levels == (0,) * 7 + (1,) * 6 + (2,) * 3
    bits = random_bits(4_000, circuit.inputs, torch.Generator().manual_seed(9), rate=0.5)
    rates = circuit.on(bits).double().mean(dim=0)
    assert 0.02 < rates.min() < rates.max() < 0.9
    assert circuit.active(bits).double().mean(dim=0).min() > 0.02
    read = {wire - circuit.inputs for gate in circuit.gates for wire in gate.sources}
    assert set(range(16)) - read < set(circuit.outputs)
    assert len(set(circuit.outputs) & read) == 2


def test_the_same_seed_draws_the_same_circuit() -> None:
    assert random_circuit(seed=1) == random_circuit(seed=1)
    assert random_circuit(seed=1) != random_circuit(seed=2)


def test_more_gates_than_inputs_can_tell_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match="more inputs or fewer gates"):
        random_circuit(inputs=2, sizes=(3, 2))


def test_a_level_of_one_gate_leaves_nothing_to_choose_two_from() -> None:
    with pytest.raises(ConfigError, match="at least two of each"):
        random_circuit(inputs=8, sizes=(4, 1, 2))
