"""The tree code: links that pay for themselves, and rates beside a parent."""

import math

import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from mad.codes.sets import chow_liu
from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.independent import IndependentCode
from tests.contracts.trusted_sets import (
    COUNTS,
    EVERY_SET,
    GENERATOR,
    INPUTS,
    KEPT,
    SETS,
    auroc,
    counts,
    everywhere,
    kept,
    linked,
)

CODE = TreeCode.fit(KEPT, COUNTS)
EVERY = torch.arange(256).unsqueeze(1).bitwise_and(2 ** torch.arange(7, -1, -1)) > 0


def dense_bits(code: TreeCode, sets: Tensor) -> Tensor:
    """Multiply the conditional chances one component at a time."""
    bits = torch.zeros(len(sets), dtype=torch.float64)
    for component, parent in enumerate(code.parent.tolist()):
        beside = sets[:, parent] if parent >= 0 else torch.zeros(len(sets), dtype=torch.bool)
        chance = torch.where(beside, code.given_active[component], code.given_silent[component])
        bits -= torch.where(sets[:, component], chance, 1 - chance).log2()
    return bits


def test_lengths_are_products_of_conditional_chances() -> None:
    lengths = CODE.lengths(EVERY_SET, everywhere(0))
    torch.testing.assert_close(lengths, dense_bits(CODE, EVERY), rtol=1e-12, atol=0)


def test_linked_components_find_each_other_and_others_stay_alone() -> None:
    links = {frozenset(pair) for pair in enumerate(CODE.parent.tolist()) if pair[1] >= 0}
    assert links == {frozenset(pair) for pair in [(0, 4), (1, 5), (2, 6)]}


def test_rates_beside_a_parent_are_shrunk_frequencies() -> None:
    child = next(c for c in (0, 4) if CODE.parent[c] >= 0)
    parent = int(CODE.parent[child])
    both = int((SETS[:, child] & SETS[:, parent]).sum())
    own, above = int(SETS[:, child].sum()), int(SETS[:, parent].sum())
    rate = (own + 0.5) / (INPUTS + 1)
    assert CODE.given_active[child].item() == pytest.approx((both + rate) / (above + 1))
    silent = (own - both + rate) / (INPUTS - above + 1)
    assert CODE.given_silent[child].item() == pytest.approx(silent)


def test_a_link_must_save_more_bits_than_half_a_logarithm_of_the_inputs() -> None:
    saved = [
        mutual_info_score(SETS[:, a], SETS[:, b]) / math.log(2) * INPUTS
        for a, b in [(0, 1), (0, 3), (3, 5), (0, 4)]
    ]
    assert max(saved[:3]) < 0.5 * math.log2(INPUTS) < saved[3]
    assert CODE.parent[3] == -1


def test_a_chain_keeps_its_neighbours_and_drops_the_shortcut() -> None:
    """In a chain 0 - 1 - 2 the ends are dependent too, but less than either on the middle."""
    first = torch.rand(2000, 1, generator=GENERATOR) < 0.5
    second = first ^ (torch.rand(2000, 1, generator=GENERATOR) < 0.1)
    third = second ^ (torch.rand(2000, 1, generator=GENERATOR) < 0.1)
    chain = torch.cat([first, second, third], dim=1)
    code = TreeCode.fit(kept(chain, everywhere(0, 2000)), counts(chain, everywhere(0, 2000)))
    links = {frozenset(pair) for pair in enumerate(code.parent.tolist()) if pair[1] >= 0}
    assert links == {frozenset({0, 1}), frozenset({1, 2})}


def test_typical_bits_are_the_mean_contribution_over_every_set() -> None:
    chance = torch.exp2(-CODE.lengths(EVERY_SET, everywhere(0))).unsqueeze(1)
    mean = (chance * CODE.contributions(EVERY_SET, everywhere(0))).sum(dim=0)
    torch.testing.assert_close(CODE.typical(everywhere(0))[0], mean)


def test_broken_links_are_found_where_coins_see_nothing() -> None:
    usual = linked(1000, GENERATOR)
    broken = torch.stack([c[torch.randperm(1000, generator=GENERATOR)] for c in usual.T], dim=1)
    assert auroc(CODE, broken, usual) > 0.8
    assert auroc(IndependentCode.fit(COUNTS), broken, usual) == pytest.approx(0.5, abs=0.05)


def test_components_beyond_the_tree_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chow_liu, "MAX_IN_TREE", 2)
    code = TreeCode.fit(KEPT, COUNTS)
    assert int((code.parent >= 0).sum()) <= 1
    torch.testing.assert_close(code.lengths(EVERY_SET, everywhere(0)), dense_bits(code, EVERY))
