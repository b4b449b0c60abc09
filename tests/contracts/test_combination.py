"""Rare components and their rare combination: an exact split."""

import pytest
import torch

from mad.codes.base import SetCode
from mad.codes.sets.combination import split_combination, split_contributions
from tests.contracts.clustered import CODES, CONTEXT, INDEPENDENT, MIXTURE, TRUSTED
from tests.contracts.test_codes import activity_of


@pytest.fixture(params=CODES)
def code(request: pytest.FixtureRequest) -> SetCode:
    return CODES[request.param]


def test_rare_components_and_rare_combination_add_up_to_the_code(code: SetCode) -> None:
    split = split_combination(code, INDEPENDENT, TRUSTED, CONTEXT)
    each = split_contributions(code, INDEPENDENT, TRUSTED, CONTEXT)
    torch.testing.assert_close(
        split.components + split.combination, code.lengths(TRUSTED, CONTEXT), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        each.components + each.combination,
        code.contributions(TRUSTED, CONTEXT),
        rtol=1e-12,
        atol=1e-12,
    )
    torch.testing.assert_close(each.components.sum(dim=1), split.components, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        each.combination.sum(dim=1), split.combination, rtol=1e-9, atol=1e-12
    )


def test_only_an_unusual_combination_has_bits_of_combination() -> None:
    halves = torch.tensor([[True] * 4 + [False] * 4, [True, True, False, False] * 2])
    split = split_combination(MIXTURE, INDEPENDENT, activity_of(halves), torch.tensor([0, 0]))
    torch.testing.assert_close(split.components[0], split.components[1], rtol=0.05, atol=0)
    assert split.combination[0] < -4
    assert split.combination[1] > 4
