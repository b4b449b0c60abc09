"""The worst pair, and the size and index of a set: what each sees and what it wastes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mad.codes.sets import worst_pair
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.size_index import SizeIndexCode
from mad.codes.sets.worst_pair import WorstPairCode
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import (
    COMPONENTS,
    COUNTS,
    EVERY_SET,
    GENERATOR,
    INPUTS,
    KEPT,
    SETS,
    auroc,
    counts,
    everywhere,
    groups,
    kept,
)

PAIR = WorstPairCode.fit(KEPT, COUNTS)
SIZE = SizeIndexCode.fit(KEPT, COUNTS)
EVERY = torch.arange(256).unsqueeze(1).bitwise_and(2 ** torch.arange(7, -1, -1)) > 0


def surprise(one: int, other: int) -> float:
    """Return how far below independence trusted sets hold both, in bits, at least zero."""
    rate = [(SETS[:, c].sum().item() + 0.5) / (INPUTS + 1) for c in (one, other)]
    both = ((SETS[:, one] & SETS[:, other]).sum().item() + 0.5) / (INPUTS + 1)
    return max(0.0, -math.log2(both / (rate[0] * rate[1])))


def test_the_length_is_a_bit_a_component_and_the_worst_active_pair() -> None:
    used = SETS.any(dim=0).tolist()
    expected = []
    for members in ([c for c in range(COMPONENTS) if row[c]] for row in EVERY):
        pairs = [(a, b) for a in members for b in members if a < b and used[a] and used[b]]
        expected.append(COMPONENTS + max([surprise(*pair) for pair in pairs], default=0.0))
    lengths = PAIR.lengths(EVERY_SET, everywhere(0))
    torch.testing.assert_close(lengths, torch.tensor(expected).double(), rtol=1e-6, atol=0)


def exclusive(inputs: int) -> Tensor:
    """Return sets with one of the first two components, never both; others meet as coins would."""
    free = torch.arange(inputs).unsqueeze(1).bitwise_and(torch.tensor([1, 2, 4])) > 0
    return torch.cat([free[:, :1], ~free[:, :1], free[:, 1:]], dim=1)


def test_a_pair_never_seen_together_is_charged_to_its_two_components() -> None:
    trusted, context = exclusive(400), everywhere(0, 400)
    code = WorstPairCode.fit(kept(trusted, context), counts(trusted, context))
    charge = code.contributions(activity_of(torch.ones(1, 4).bool()), everywhere(0, 1))[0]
    own = [(trusted[:, c].sum().item() + 0.5) / 401 for c in (0, 1)]
    half = -0.5 * math.log2((0.5 / 401) / (own[0] * own[1]))
    assert charge.tolist() == pytest.approx([1 + half, 1 + half, 1, 1], rel=1e-6)


def test_what_is_odd_with_several_is_charged_as_much_as_all_of_them() -> None:
    """The first component is never on with the others, which go together as they like."""
    first = torch.rand(600, 1, generator=GENERATOR) < 0.5
    others = torch.rand(600, 2, generator=GENERATOR) < 0.5
    trusted, context = torch.cat([first, others & ~first], dim=1), everywhere(0, 600)
    code = WorstPairCode.fit(kept(trusted, context), counts(trusted, context))
    all_three = activity_of(torch.ones(1, 3).bool())
    charge = code.contributions(all_three, everywhere(0, 1))[0] - 1
    assert float(charge.sum()) == pytest.approx(float(code.lengths(all_three, context[:1])) - 3)
    assert float(charge[0]) == pytest.approx(float(charge[1:].sum()))


def test_a_combination_nobody_trusted_is_found_whatever_the_size_of_sets() -> None:
    trusted, context = groups(600, GENERATOR, mixed=False), everywhere(0, 600)
    sample, total = kept(trusted, context), counts(trusted, context)
    usual, mixed = (groups(400, GENERATOR, mixed=mixed) for mixed in (False, True))
    assert auroc(WorstPairCode.fit(sample, total), mixed, usual) > 0.98
    assert auroc(SizeIndexCode.fit(sample, total), mixed, usual) == pytest.approx(0.5, abs=0.06)
    assert auroc(IndependentCode.fit(total), mixed, usual) == pytest.approx(0.5, abs=0.06)


def test_only_pairs_of_the_most_used_components_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worst_pair, "MAX_IN_PAIRS", 2)
    code = WorstPairCode.fit(KEPT, COUNTS)
    two = SETS.sum(dim=0).argsort(descending=True, stable=True)[:2].tolist()
    assert code.frequent.tolist() == two
    expected = torch.where(EVERY[:, two].all(dim=1), surprise(*two), 0.0).double() + COMPONENTS
    lengths = code.lengths(EVERY_SET, everywhere(0))
    torch.testing.assert_close(lengths, expected, rtol=1e-6, atol=0)


def test_pairs_are_looked_up_alike_a_few_inputs_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = PAIR.lengths(EVERY_SET, everywhere(0))
    monkeypatch.setattr(worst_pair, "_CELLS", 100)
    assert torch.equal(PAIR.lengths(EVERY_SET, everywhere(0)), together)


def usage() -> Tensor:
    count = SETS.sum(dim=0).double() + 0.5
    return count / count.sum()


def size_chances() -> Tensor:
    return (SETS.sum(dim=1).bincount(minlength=COMPONENTS + 1) + 0.5) / (INPUTS + 4.5)


def test_size_and_index_is_the_chance_of_draws_in_any_order() -> None:
    expected = torch.tensor(
        [
            size_chances()[row.sum()] * math.factorial(int(row.sum())) * usage()[row].prod()
            for row in EVERY
        ]
    )
    lengths = SIZE.lengths(EVERY_SET, everywhere(0))
    torch.testing.assert_close(torch.exp2(-lengths), expected.double())


def test_size_and_index_wastes_the_chance_that_draws_repeat() -> None:
    """The coefficients of prod (1 + q_j t) are the elementary symmetric polynomials of q."""
    symmetric = np.array([1.0])
    for chance in usage().tolist():
        symmetric = np.convolve(symmetric, [1.0, chance])
    distinct = symmetric * [math.factorial(k) for k in range(COMPONENTS + 1)]
    total = torch.exp2(-SIZE.lengths(EVERY_SET, everywhere(0))).sum().item()
    assert total == pytest.approx(float(size_chances().double().numpy() @ distinct), rel=1e-6)
    assert total < 1


def test_size_and_index_charges_members_only() -> None:
    charge = SIZE.contributions(activity_of(SETS), everywhere(0, INPUTS))
    has_members = SETS.any(dim=1)
    assert (charge[has_members][~SETS[has_members]] == 0).all()
    rare, common = usage().argsort()[[1, -1]].tolist()
    both = SETS[:, rare] & SETS[:, common]
    assert (charge[both][:, rare] > charge[both][:, common]).all()
