"""Transcoders: one site read, another explained, all the way to counterfactuals and effects."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import train
from mad.components.dictionaries.training import Training
from mad.counterfactual import counterfactuals
from mad.effects import by_effect, differentiated
from mad.fit import fit, split
from mad.monitor import Monitor
from mad.types import Charge, Explanation
from tests.worlds import CREATED, PLAN, Rows, ordinary, quiet, strange, tiny_module

FEATURES, READ, WRITTEN = 48, 24, 16
LOOK = Look(("layer<",), ("layer",), "flatten")


class Layer(nn.Module):
    """Notices sparse directions of what it reads, writes others, and passes a linear part on."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(FEATURES, READ, generator=generator)
        self.read = functional.normalize(drawn, dim=1)
        drawn = torch.randn(FEATURES, WRITTEN, generator=generator)
        self.write = functional.normalize(drawn, dim=1)
        self.linear = 0.5 * torch.randn(READ, WRITTEN, generator=generator) / READ**0.5

    def forward(self, x: Tensor) -> Tensor:
        written: Tensor = (x @ self.read.T - 0.4).relu() @ self.write + x @ self.linear
        return written


class Model(nn.Module):
    """A layer between two others; the answer is what it writes along two directions."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Identity()
        self.layer = Layer()
        self.answer = nn.Linear(WRITTEN, 2, bias=False)
        nn.init.orthogonal_(self.answer.weight, generator=torch.Generator().manual_seed(3))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.answer(self.layer(self.before(x)))
        return answer


MODEL = MonitoredModel.of(Model(), name="m", inputs=["x"])


def inputs(count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(count, FEATURES, generator=generator) < 2 / FEATURES
    sizes = 0.5 + torch.rand(count, FEATURES, generator=generator)
    module = MODEL.module
    assert isinstance(module, Model)
    return {"x": (active * sizes) @ module.layer.read}


def captured(count: int, seed: int) -> Mapping[str, Tensor]:
    return capture(MODEL, LOOK.sites, inputs(count, seed)).activations


def trained(*, skip: bool, steps: int = 300) -> Dictionary:
    plan = DictionaryPlan(
        width=96, k=3, steps=steps, batch_size=256, skip=skip, learning_rate=5e-3, seed=1
    )
    examples = LOOK.examples(captured(4_000, seed=0))
    return train(LOOK, examples, plan, step_done=lambda *_: None)


@pytest.fixture(scope="module")
def transcoder() -> Dictionary:
    return trained(skip=True)


def unexplained(dictionary: Dictionary) -> float:
    activity = dictionary.activity(captured(1_000, seed=1))["layer"]
    away = activity.activation - activity.activation.mean(dim=0)
    return float(activity.residual.square().sum() / away.square().sum())


def linear_unexplained() -> float:
    """Return what the best linear map leaves over."""
    held = captured(1_000, seed=1)
    x, y = held["layer<"], held["layer"]
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float((y - x @ torch.linalg.lstsq(x, y).solution).square().sum() / y.square().sum())


def test_the_view_is_of_the_site_explained_and_both_are_read(transcoder: Dictionary) -> None:
    assert transcoder.sites == ("layer", "layer<")
    assert transcoder.views == {"layer": "layer"}
    activity = transcoder.activity(captured(5, seed=2))["layer"]
    assert activity.activation.shape == (5, WRITTEN)


def test_latents_explain_what_no_linear_map_does_and_a_skip_the_rest(
    transcoder: Dictionary,
) -> None:
    alone = unexplained(trained(skip=False))
    assert unexplained(transcoder) < 0.7 * alone
    assert unexplained(transcoder) < 0.5 * linear_unexplained()


def test_components_depend_on_what_is_read_alone(transcoder: Dictionary) -> None:
    activations = dict(captured(20, seed=3))
    before = transcoder.activity(activations)["layer"]
    after = transcoder.activity({**activations, "layer": activations["layer"] + 1})["layer"]
    assert torch.equal(after.components, before.components)
    assert torch.equal(after.magnitudes, before.magnitudes)
    torch.testing.assert_close(after.residual, before.residual + 1)


def test_a_skip_begins_at_nothing_and_learns_a_linear_layer() -> None:
    generator = torch.Generator().manual_seed(4)
    matrix = torch.randn(6, 3, generator=generator)
    read = torch.randn(2_000, 6, generator=generator)
    examples = Examples(read, read @ matrix + 1)
    plan = DictionaryPlan(width=8, k=1, steps=400, skip=True, learning_rate=1e-2)
    training = Training.begin(Look(("in",), ("out",), "flatten"), examples, plan)
    assert training.skip is not None
    assert not training.skip.any()
    for _ in range(400):
        training.step(examples)
    done = training.finish(examples)
    assert done.skip is not None
    activity = done.activity({"in": read, "out": examples.target})["out"]
    assert activity.residual.square().mean() < 1e-3 * examples.target.var()


def test_a_kinds_penalty_does_not_teach_the_skip() -> None:
    """The penalty is made of what the skip leaves over; a step of it alone leaves the skip."""
    generator = torch.Generator().manual_seed(5)
    read = torch.randn(200, 6, generator=generator)
    examples = Examples(read, torch.randn(200, 3, generator=generator))
    plan = DictionaryPlan(kind="relu", width=8, k=1, steps=10, skip=True)
    training = Training.begin(Look(("in",), ("out",), "flatten"), examples, plan)
    attempt = training.attempt(examples)
    training.learn(attempt, 0.0 * attempt.forward.explained.sum())
    assert training.skip is not None
    assert not training.skip.any()


def test_training_goes_on_from_its_state_with_the_skip() -> None:
    examples = LOOK.examples(captured(500, seed=6))
    plan = DictionaryPlan(width=16, k=2, steps=10, skip=True)
    whole, first, second = (Training.begin(LOOK, examples, plan) for _ in range(3))
    for _ in range(6):
        whole.step(examples)
    for _ in range(3):
        first.step(examples)
    second.restore({name: value.clone() for name, value in first.state.items()})
    for _ in range(3):
        second.step(examples)
    assert whole.finish(examples).fingerprint == second.finish(examples).fingerprint


def test_silencing_a_component_takes_its_share_of_what_the_layer_writes(
    transcoder: Dictionary,
) -> None:
    one = inputs(1, seed=7)
    activity = transcoder.activity(capture(MODEL, transcoder.sites, one).activations)["layer"]
    assert len(activity.components)
    component = int(activity.components[0])
    charge = Charge("layer", "set", component, 5.0, 1.0, float(activity.magnitudes[0]), 0.1)
    (found,) = counterfactuals(MODEL, transcoder, one, Explanation((charge,), 0.0))
    assert found.removed == (component,)
    share = activity.magnitudes[:1, None] * transcoder.directions("layer", activity.components[:1])
    module = MODEL.module
    assert isinstance(module, Model)
    moved = share @ module.answer.weight.T
    expected = (moved.norm() / module(one["x"]).norm()).detach()
    assert found.output_change == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    "look",
    [
        Look(("1<",), ("3",), "flatten"),
        Look(("1", "3"), ("3",), "flatten"),
        Look(("1", "3"), ("1", "3"), "flatten"),
    ],
)
def test_a_baseline_is_fitted_and_served_with_any_look(look: Look) -> None:
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    trusted = Rows(ordinary(600, seed=1))
    read = capture(model, look.sites, trusted.take(split(600, PLAN).fitting)).activations
    decomposition = train(
        look,
        look.examples(read),
        DictionaryPlan(width=32, k=4, steps=40, batch_size=128, skip=not look.is_own),
        step_done=lambda *_: None,
        widths=look.widths(read),
    )
    baseline = fit(model, decomposition, trusted, PLAN, created=CREATED, progress=quiet)
    monitor = Monitor.bind(model, decomposition, baseline)
    usual = monitor.judge({"x": ordinary(40, seed=2)}).verdicts
    odd = monitor.judge({"x": strange(40, seed=3)}).verdicts
    assert max(one.surprise_bits for one in usual) < min(one.surprise_bits for one in odd)
    one = {"x": strange(1, seed=4)}
    _, explanation = monitor.explain(one, max_charges=50)
    found = monitor.counterfactuals(one, explanation)
    assert {change.site for change in found} == set(look.views)
    assert any(change.output_change > 0 for change in found)


def test_effects_are_magnitudes_times_the_slope_at_the_site_explained(
    transcoder: Dictionary,
) -> None:
    several = inputs(10, seed=8)
    seen = differentiated(MODEL, transcoder, several)
    found = by_effect(transcoder, seen, keep=96)["layer"]
    module = MODEL.module
    assert isinstance(module, Model)
    slopes = module.answer.weight[module(several["x"]).argmax(dim=1)]
    activity = transcoder.activity(seen.activations)["layer"]
    directions = transcoder.directions("layer", activity.components)
    expected = activity.magnitudes * (directions * slopes[activity.rows]).sum(dim=1)
    assert torch.equal(found.components, activity.components)
    torch.testing.assert_close(found.magnitudes, expected.detach())
