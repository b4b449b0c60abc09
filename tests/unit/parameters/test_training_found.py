"""What training comes to: known features, found."""

import pytest
import torch

from mad.bench.truth.found import Found, alone, likeness
from mad.bench.truth.tms import sparse
from mad.components.parameters.layers import matrix_of
from mad.components.parameters.training.plan import LayerPlan, SpdPlan
from mad.components.parameters.training.training import SpdTraining
from tests.unit.parameters.models import Tied

PLAN = SpdPlan(
    layers=(LayerPlan("linear1", 10), LayerPlan("linear2", 10)),
    ties=(("linear1", "linear2"),),
    steps=600,
    batch_size=128,
    rate=1e-2,
    warm_up_steps=100,
)


@pytest.mark.slow
def test_three_features_in_two_dimensions_are_found() -> None:
    model, generator = Tied(3), torch.Generator().manual_seed(0)
    training = SpdTraining.begin(model, PLAN, sparse(128, 3, generator, rate=0.1))
    for _ in range(PLAN.steps):
        training.step(sparse(128, 3, generator, rate=0.1))
    pieces = training.finish()
    mmcs, ml2r = likeness(matrix_of(model, pieces[0].layer), pieces[0].v, pieces[0].u)
    assert mmcs > 0.99
    assert abs(ml2r - 1.0) < 0.05
    for importance in alone(training.passes, pieces, 3).values():
        assert Found.of(importance).identity_error == 0
