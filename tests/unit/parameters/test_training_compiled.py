"""Steps that are compiled change what steps that are not would have."""

from dataclasses import replace

import pytest
import torch

from mad.bench.truth.tms import sparse
from mad.components.parameters.training.compiled import can_compile
from mad.components.parameters.training.plan import LayerPlan, SpdPlan
from mad.components.parameters.training.training import SpdTraining
from tests.unit.parameters.models import Tied

PLAN = SpdPlan(
    layers=(LayerPlan("linear1", 10), LayerPlan("linear2", 10)),
    ties=(("linear1", "linear2"),),
    steps=600,
    batch_size=128,
    rate=1e-2,
    warm_up_steps=5,
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")
def test_compiled_steps_are_those_of_the_formulas() -> None:
    plan = replace(PLAN, p_final=0.5)
    generator = torch.Generator().manual_seed(0)
    batches = [sparse(128, 3, generator, rate=0.1) for _ in range(4)]
    eager, compiled = (
        SpdTraining.begin(Tied(3), plan, batches[0], compiled=one) for one in (False, True)
    )
    for batch in batches:
        wanted, found = eager.step(batch), compiled.step(batch)
        assert found.loss == pytest.approx(wanted.loss, rel=1e-4)
    for name, one in eager.state.items():
        torch.testing.assert_close(compiled.state[name], one, atol=1e-4, rtol=1e-3)
