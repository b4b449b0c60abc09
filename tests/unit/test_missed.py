"""Shares of squares that reconstructions miss, of batches that have some and of those with none."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mad.components.dictionaries.kinds.registry import LEARNERS
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.missed import missed_share
from mad.components.dictionaries.plan import DictionaryPlan, Kind
from mad.components.dictionaries.train import train

PLAN = DictionaryPlan(width=16, k=3, steps=60, batch_size=8, dead_after=40, experts=4)


def mostly_nothing() -> Tensor:
    """Return vectors of which all but a few are zero, as is their mean."""
    return torch.cat([torch.zeros(200, 4), torch.eye(4), -torch.eye(4)])


def test_half_of_each_vector_missed_is_a_quarter_of_the_squares() -> None:
    target = torch.tensor([[2.0, 0.0], [0.0, -4.0]])
    assert missed_share(target / 2, target) == pytest.approx(0.25)


def test_nothing_is_missed_of_nothing() -> None:
    explained = torch.zeros(3, 2, requires_grad=True)
    missed = missed_share(explained, torch.zeros(3, 2))
    missed.backward()
    assert missed == 0
    assert explained.grad is not None
    assert not explained.grad.any()


@pytest.mark.parametrize("kind", LEARNERS)
def test_batches_at_the_centre_spoil_no_weights(kind: Kind) -> None:
    plan = replace(PLAN, kind=kind)
    vectors = Examples.own(mostly_nothing())
    found = train(Look.at("site", "auto"), vectors, plan, step_done=lambda *_: None)
    for name, weight in found.weights.items():
        assert weight.isfinite().all(), name


@pytest.mark.parametrize("kind", LEARNERS)
def test_an_error_of_nothing_spoils_no_weights(kind: Kind) -> None:
    """One coordinate is explained exactly, so that the dead have nothing left to explain."""
    plan = replace(PLAN, kind=kind, batch_size=1, dead_after=5)
    vectors = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    look, examples = Look.at("site", "auto"), Examples.own(vectors)
    found = train(look, examples, plan, step_done=lambda *_: None)
    for name, weight in found.weights.items():
        assert weight.isfinite().all(), name
