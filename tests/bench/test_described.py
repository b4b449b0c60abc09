"""Decompositions of one model compare by the bits that describe what its layers write."""

import pytest
import torch
from torch import nn

from mad.arrays import Table
from mad.bench.described import described
from mad.capture.model import MonitoredModel
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.thresholds import beside
from mad.fit import FitPlan, split

FEATURES = 12


def sparse(rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = 0.5 + torch.rand(rows, FEATURES, generator=generator)
    return values * (torch.rand(rows, FEATURES, generator=generator) < 0.1)


def by_feature(model: nn.Module, *, reach: float) -> ParameterDecomposition:
    """Return a piece a feature, active where it exceeds ``reach``."""
    none = torch.zeros(0, 2)
    nothing = ScalarImportance(none, none, none, none[:, 0])
    v, layer = torch.eye(FEATURES), matrix_layer(model, "0")
    pieces = Subcomponents(layer, v, matrix_of(model, layer), beside(nothing, v, reach=reach))
    return ParameterDecomposition.of(model, [pieces])


def test_the_mechanisms_themselves_are_shorter_and_what_is_never_active_changes_nothing() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(FEATURES, FEATURES, bias=False))
    model = MonitoredModel.of(module.eval(), name="sparse", inputs=["x"])
    data = Table({"x": sparse(4_000)})
    rows = split(4_000, FitPlan(name="described"))
    pieces = [by_feature(module, reach=reach) for reach in (0.25, 9.0)]
    (right, never), without = described(model, pieces, data, rows)
    assert right < 0.5 * without
    # Coins that never fall cost next to nothing: 12 of them, about 1 / (2 n) nats each.
    assert never == pytest.approx(without, abs=0.01)
