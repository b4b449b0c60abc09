"""Toys of features and of modular addition: they compute what they should, and ablation tells."""

from functools import cache

import pytest
import torch
from torch import Tensor

from mad.bench.tasks import INPUT
from mad.bench.truth.base import AnomalyKind, Truth
from mad.bench.truth.cases import choose, draw_cases
from mad.bench.truth.circuits import random_bits
from mad.bench.truth.gates import SPARSE
from mad.bench.truth.models import KINDS
from mad.bench.truth.modular import ModularTask
from mad.errors import ConfigError

TOYS = ["tms", "resid_mlp", "modular"]


@cache
def truth(kind: str) -> Truth:
    return KINDS[kind].truth(0)


def drawn(kind: str, count: int = 2_000) -> dict[str, Tensor]:
    return dict(truth(kind).draw(count, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("kind", TOYS)
def test_what_is_active_is_on_and_often_so(kind: str) -> None:
    on, active = truth(kind).on(drawn(kind)), truth(kind).active(drawn(kind))
    assert not (active & ~on).any()
    assert (active.sum(dim=0) > 0.5 * on.sum(dim=0)).all()
    assert truth(kind).name == f"{kind} 0"
    assert len(truth(kind).mechanisms) == on.shape[1]


@pytest.mark.parametrize("anomaly", ["mechanism", "pair"])
@pytest.mark.parametrize("kind", TOYS)
def test_each_toy_has_a_mechanism_and_a_pair_to_hold_out(kind: str, anomaly: AnomalyKind) -> None:
    chosen = choose(truth(kind), anomaly, trusted=6_000, seed=0)
    found = draw_cases(truth(kind), chosen, trusted=2_000, tests=100, seed=0)
    assert not chosen.matches(truth(kind).on(found.trusted)).any()
    assert truth(kind).active(found.anomalous)[:, list(chosen.uses)].all()
    counts = [truth(kind).active(one).sum(dim=1) for one in (found.matched, found.anomalous)]
    assert counts[0].sort().values.equal(counts[1].sort().values)


def answered(kind: str, given: Tensor) -> Tensor:
    with torch.no_grad():
        answers: Tensor = truth(kind).model.module(given)
    return answers


def test_modular_addition_adds_up_what_its_operations_answer() -> None:
    given = drawn("modular", 300)[INPUT]
    first, second = given[:, :5].argmax(dim=1), given[:, 5:10].argmax(dim=1)
    wanted = torch.zeros(300, 5)
    for k in range(1, 5):
        answer = (first + k * second) % 5
        wanted += torch.eye(5)[answer] * given[:, 9 + k : 10 + k]
    # Each of four operations may be a tenth off.
    torch.testing.assert_close(answered("modular", given), wanted, atol=0.4, rtol=0.0)


def test_an_operation_is_active_where_its_switch_is_on() -> None:
    assert truth("modular").active(drawn("modular")).equal(truth("modular").on(drawn("modular")))


@pytest.mark.parametrize("operations", [0, 7])
def test_operations_that_repeat_one_another_are_refused(operations: int) -> None:
    with pytest.raises(ConfigError, match="ask for 1 to 6"):
        ModularTask(modulus=7, operations=operations)


def test_a_table_that_was_not_learnt_is_refused() -> None:
    with pytest.raises(ConfigError, match="give it more neurons than 24, or more steps"):
        ModularTask(steps=3).trained(0)


def test_a_feature_of_a_toy_matters_where_its_answer_needs_it() -> None:
    alone = 0.75 * torch.eye(5)
    assert truth("tms").active({INPUT: alone}).diagonal().all()
    assert not truth("tms").active({INPUT: 0.02 * torch.eye(5)}).any()
    # A residual network adds relu(x), of which there is nothing below zero.
    one = 0.75 * torch.eye(16)
    assert truth("resid_mlp").active({INPUT: one}).diagonal().all()
    assert not truth("resid_mlp").on({INPUT: -one}).any()


def test_gates_of_a_sparse_circuit_are_off_more_often_than_on() -> None:
    bits = random_bits(4_000, 16, torch.Generator().manual_seed(9), rate=SPARSE.rate)
    assert SPARSE.circuit(0).on(bits).double().mean(dim=0).max() < 0.53
