"""Several first draws: which goes on, and that a killed trial goes on the same."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mad.components.parameters.apd.plan import ApdPlan
from mad.components.parameters.apd.starts import ApdStarts
from mad.components.parameters.apd.training import ApdTraining
from mad.errors import ConfigError

PLAN = ApdPlan(
    layers=("0", "2"),
    components=4,
    active=1.0,
    steps=40,
    warm_up=0.15,
    batch_size=16,
    rate=1e-2,
    starts=3,
)
TRIAL = 8
"""Steps in which the rate rises, 6, and a twentieth of 40."""


def model() -> nn.Module:
    """Return a small network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def batch(step: int) -> Tensor:
    """Return the inputs of a step."""
    return torch.randn(16, 3, generator=torch.Generator().manual_seed(step))


def test_what_missed_least_goes_on() -> None:
    """Held against each start trained by itself, on the same batches; simplicity does not count."""
    alone = [ApdTraining.begin(model(), replace(PLAN, seed=1_000_003 * k)) for k in range(3)]
    missed = [0.0, 0.0, 0.0]
    for step in range(TRIAL):
        for k, one in enumerate(alone):
            found = one.step(batch(step))
            if step >= TRIAL - 2:
                missed[k] += found.faithfulness + found.minimality
    together = ApdStarts.begin(model(), PLAN)
    for step in range(TRIAL):
        together.step(batch(step))
    best = missed.index(min(missed))
    assert best != 0
    for _ in range(2):
        for name, wanted in alone[best].finish().items():
            given = together.finish()[name]
            assert torch.equal(given.a, wanted.a)
            assert torch.equal(given.b, wanted.b)
        assert alone[best].step(batch(TRIAL)) == together.step(batch(TRIAL))


def test_one_start_is_the_training_itself() -> None:
    one, alone = ApdStarts.begin(model(), replace(PLAN, starts=1)), ApdTraining.begin(model(), PLAN)
    for step in range(TRIAL + 1):
        assert one.step(batch(step)) == alone.step(batch(step))


@pytest.mark.parametrize("killed", [3, TRIAL - 1, TRIAL, TRIAL + 5])
def test_a_killed_training_goes_on_the_same(killed: int) -> None:
    """Before starts are counted, while they are, and after all but one are given up."""
    whole, first = ApdStarts.begin(model(), PLAN), ApdStarts.begin(model(), PLAN)
    for step in range(killed):
        first.step(batch(step))
    kept = {name: one.clone() for name, one in first.state.items()}
    second = ApdStarts.begin(model(), PLAN)
    second.restore(kept)
    assert second.steps_done == killed
    figures = [whole.step(batch(step)) for step in range(TRIAL + 8)]
    assert [second.step(batch(step)) for step in range(killed, TRIAL + 8)] == figures[killed:]
    for name, one in whole.finish().items():
        assert torch.equal(second.finish()[name].a, one.a)


def test_at_least_one_start() -> None:
    with pytest.raises(ConfigError, match="starts is 0"):
        replace(PLAN, starts=0)
