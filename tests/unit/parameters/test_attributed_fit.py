"""Components trained on trusted data: the same after a kill, and read by one rule."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mad.capture.model import MonitoredModel
from mad.components.parameters.apd.components import Components
from mad.components.parameters.apd.plan import ApdPlan
from mad.components.parameters.apd.rules import Above, Asked, Largest
from mad.errors import ConfigError
from mad.fit import Unfinished
from mad.fit.apart import unwatched
from mad.fit.attributed import ApdWatch, read_out, train_components
from tests.pentagon import pentagon, usual
from tests.unit.unfinished import KilledError
from tests.worlds import Rows, quiet

PLAN = ApdPlan(
    layers=("write", "read"),
    ties=(("write", "read"),),
    components=4,
    active=1.0,
    steps=8,
    batch_size=16,
)
DATA = Rows(usual(100, seed=1))
ROWS = torch.arange(60)


def watched() -> MonitoredModel:
    return MonitoredModel.of(pentagon(), name="pentagon", inputs=["x"])


def trained(unfinished: Unfinished | None, watch: ApdWatch = unwatched) -> Components:
    """Train, holding no inputs in memory, on the first rows."""
    done = train_components(
        watched(),
        DATA,
        PLAN,
        rows=ROWS,
        progress=quiet,
        room_bytes=0,
        unfinished=unfinished,
        watch=watch,
    )
    assert len(done.seen) == 60
    return done.components


def test_a_training_that_was_killed_ends_in_the_same_components(tmp_path: Path) -> None:
    steps: list[int] = []

    def dies(step: int, _figures: object) -> None:
        steps.append(step)
        if steps == [1, 2, 3, 4, 5]:
            raise KilledError

    place = Unfinished(tmp_path / "unfinished", every_s=0.0, clock=lambda: 0.0)
    with pytest.raises(KilledError):
        trained(place, dies)
    after = trained(place, dies)
    # The checkpoint is of the step before the one that was told of last.
    assert steps == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    for name, one in trained(None).items():
        assert torch.equal(after[name].a, one.a)
        assert torch.equal(after[name].b, one.b)


def test_a_rule_is_taken_from_the_rows_it_is_given() -> None:
    """Of 60 inputs and 4 components 60 attributions exceed the one threshold: one an input."""
    components = trained(None)
    found, seen = read_out(
        watched(), components, Asked("one", 1.0), DATA, rows=ROWS, progress=quiet
    )
    assert isinstance(found.rule, Above)
    assert found.rule.thresholds.shape == (4,)
    assert len(found.rule.thresholds.unique()) == 1
    assert len(seen) == 60
    none, _ = read_out(watched(), components, Asked("none", 2.0), DATA, rows=ROWS, progress=quiet)
    assert none.rule == Largest(2)


def test_a_model_without_attributions_is_refused_before_any_step() -> None:
    """Attention that is fused has no tangents, and a backward pass an output is too many."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.read = nn.Linear(5, 4), nn.Linear(4, 1_001)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.write(x).reshape(-1, 1, 2, 2)
            mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
            answer: torch.Tensor = self.read(mixed.flatten(1))
            return answer

    model = MonitoredModel.of(Wide(), name="wide", inputs=["x"])
    plan = ApdPlan(layers=("write", "read"), components=4, active=1.0, steps=8, batch_size=16)
    with pytest.raises(ConfigError, match="attributions cannot be found"):
        train_components(model, DATA, plan, rows=ROWS, progress=quiet, room_bytes=0)


def test_a_model_in_another_precision_is_refused_before_any_step() -> None:
    double = MonitoredModel.of(pentagon().double(), name="double", inputs=["x"])
    with pytest.raises(ConfigError, match=r"'write' has weights of torch.float64.*\.float\(\)"):
        train_components(double, DATA, PLAN, rows=ROWS, progress=quiet, room_bytes=0)
