"""Rare components and their rare combination: what a set costs beyond independent components."""

import torch

from tests.contracts.clustered import INDEPENDENT, MIXTURE
from tests.contracts.test_codes import activity_of


def test_only_an_unusual_combination_has_bits_of_combination() -> None:
    halves = torch.tensor([[True] * 4 + [False] * 4, [True, True, False, False] * 2])
    sets, context = activity_of(halves), torch.tensor([0, 0])
    components = INDEPENDENT.lengths(sets, context)
    combination = MIXTURE.lengths(sets, context) - components
    torch.testing.assert_close(components[0], components[1], rtol=0.05, atol=0)
    assert combination[0] < -4
    assert combination[1] > 4
