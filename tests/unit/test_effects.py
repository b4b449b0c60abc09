"""Effects of components on a model's answer, against closed forms on linear models."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from mad.capture.model import MonitoredModel, fingerprint
from mad.components.base import Decomposition
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.joined import Joined
from mad.components.pooling import Pooling
from mad.components.unexplained import Unexplained
from mad.effects import by_effect, differentiated
from mad.errors import ConfigError
from mad.types import Activity, Inputs, View
from tests.dictionaries import looking

FEATURES = 6


def effects(
    model: MonitoredModel, decomposition: Decomposition, inputs: Inputs, *, keep: int
) -> Mapping[View, Activity]:
    return by_effect(decomposition, differentiated(model, decomposition, inputs), keep=keep)


def dictionary(site: str, *, k: int = FEATURES, pooling: Pooling = "auto") -> Dictionary:
    """Read each coordinate as a component, through a centre and a scale."""
    directions = torch.eye(FEATURES)
    centre, scale = torch.full((FEATURES,), 0.25), torch.tensor(2.0)
    return topk_dictionary(
        site=site,
        pooling=pooling,
        k=k,
        encoder=directions,
        bias=torch.zeros(FEATURES),
        decoder=directions,
        centre=centre,
        scale=scale,
    )


def halved(dictionary: Dictionary) -> Dictionary:
    """Return a view of half the scale."""
    frame = replace(dictionary.source, scale=dictionary.source.scale / 2)
    return looking(replace(dictionary, source=frame, target=frame), suffix="half")


def linear_head(seed: int = 0) -> tuple[nn.Sequential, Tensor]:
    """Return a model whose answer is linear in the site ``0``, and the weights."""
    head = nn.Linear(FEATURES, 3)
    weight = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        head.weight.copy_(weight)
    return nn.Sequential(nn.Identity(), head), weight


def monitored(module: nn.Module) -> MonitoredModel:
    return MonitoredModel.of(module, name="m", inputs=["x"])


def dense(activity: Activity) -> Tensor:
    table = torch.zeros(len(activity), activity.num_components)
    table[activity.rows, activity.components] = activity.magnitudes
    return table


@pytest.mark.parametrize("frozen", [False, True])
def test_an_effect_on_a_linear_head_is_weight_times_magnitude(frozen: bool) -> None:
    module, weight = linear_head()
    module.requires_grad_(not frozen)
    x = torch.randn(40, FEATURES, generator=torch.Generator().manual_seed(1))
    found = effects(monitored(module), dictionary("0"), {"x": x}, keep=FEATURES)["0"]
    predicted = module(x).argmax(dim=1)
    # What a latent adds to the activation is its part of x above the centre.
    expected = (x - 0.25).relu() * weight[predicted]
    torch.testing.assert_close(dense(found), expected)
    assert (found.magnitudes < 0).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, FEATURES))
def test_the_components_of_largest_absolute_effect_are_kept(seed: int, keep: int) -> None:
    module, _ = linear_head(seed)
    x = torch.randn(7, FEATURES, generator=torch.Generator().manual_seed(seed + 1))
    model = monitored(module)
    every = effects(model, dictionary("0"), {"x": x}, keep=FEATURES)["0"]
    kept = effects(model, dictionary("0"), {"x": x}, keep=keep)["0"]
    for row in range(7):
        by_size = sorted(every.row(row).magnitudes.tolist(), key=abs, reverse=True)
        mine = kept.row(row)
        assert sorted(mine.magnitudes.tolist(), key=abs, reverse=True) == by_size[:keep]
        assert (mine.components.diff() > 0).all()


def test_an_input_has_the_same_effects_alone_and_in_a_batch() -> None:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(4, FEATURES), nn.ReLU(), nn.Linear(FEATURES, 3), nn.Tanh())
    model = monitored(module)
    decomposition = Joined((dictionary("0", k=4), dictionary("1", k=3)))
    x = torch.randn(9, 4)
    together = effects(model, decomposition, {"x": x}, keep=2)
    for row in range(9):
        alone = effects(model, decomposition, {"x": x[row : row + 1]}, keep=2)
        for site, activity in alone.items():
            assert torch.equal(activity.components, together[site].row(row).components)
            torch.testing.assert_close(activity.magnitudes, together[site].row(row).magnitudes)
            torch.testing.assert_close(activity.residual, together[site].row(row).residual)


def test_an_effect_at_an_early_site_goes_through_the_later_ones() -> None:
    module, weight = linear_head()
    model = monitored(nn.Sequential(nn.Identity(), *module))
    x = torch.rand(5, FEATURES) + 1
    decomposition = Joined((dictionary("0"), dictionary("1")))
    found = effects(model, decomposition, {"x": x}, keep=FEATURES)
    torch.testing.assert_close(dense(found["0"]), dense(found["1"]))
    torch.testing.assert_close(dense(found["0"]), (x - 0.25) * weight[module(x).argmax(dim=1)])


def test_a_component_without_effect_is_not_active() -> None:
    module, _ = linear_head()
    with torch.no_grad():
        module.get_parameter("1.weight")[:, 2] = 0.0
    x = torch.ones(3, FEATURES)
    found = effects(monitored(module), dictionary("0"), {"x": x}, keep=FEATURES)["0"]
    assert found.counts.tolist() == [FEATURES - 1] * 3
    assert 2 not in found.components.tolist()


def test_each_view_of_a_site_has_effects_of_its_own() -> None:
    module, _ = linear_head()
    x = torch.randn(8, FEATURES, generator=torch.Generator().manual_seed(5))
    half = halved(dictionary("0"))
    both = Joined((dictionary("0"), half))
    found = effects(monitored(module), both, {"x": x}, keep=FEATURES)
    assert tuple(found) == ("0", "0:half")
    torch.testing.assert_close(dense(found["0:half"]), dense(found["0"]))


class Positions(nn.Module):
    """Adds up a linear read of every position; only the last counts double."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.site = nn.Identity()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        read: Tensor = self.site(x) @ self.weight
        return (read.sum(dim=1) + read[:, -1]).unsqueeze(1)


@pytest.mark.parametrize(("pooling", "times"), [("last", 2), ("mean", 5), ("max", 5), ("auto", 2)])
def test_an_effect_counts_the_positions_that_a_component_stands_for(
    pooling: Pooling, times: int
) -> None:
    weight = torch.arange(1.0, FEATURES + 1)
    # Equal positions, of which there are four: every pooling gives the same vector.
    x = (torch.rand(3, 1, FEATURES) + 1).expand(3, 4, FEATURES)
    decomposition = dictionary("site", pooling=pooling)
    found = effects(monitored(Positions(weight)), decomposition, {"x": x}, keep=FEATURES)["site"]
    torch.testing.assert_close(dense(found), times * weight * (x[:, 0] - 0.25))


def test_a_single_score_is_read_for_the_label_it_predicts() -> None:
    module = nn.Sequential(nn.Identity(), nn.Linear(FEATURES, 1, bias=False))
    with torch.no_grad():
        module.get_parameter("1.weight").fill_(-1.0)
    x = torch.ones(1, FEATURES)
    found = effects(monitored(module), dictionary("0"), {"x": x}, keep=FEATURES)["0"]
    # The score is negative, so each component speaks for label 0.
    torch.testing.assert_close(found.magnitudes, torch.full((FEATURES,), 0.75))


@pytest.mark.parametrize(
    "decomposition", [Unexplained("0"), Joined((Unexplained("0"), dictionary("1", k=2)))]
)
def test_a_site_without_components_has_no_effects(decomposition: Decomposition) -> None:
    module, _ = linear_head()
    model = monitored(nn.Sequential(nn.Identity(), *module))
    found = effects(model, decomposition, {"x": torch.ones(3, FEATURES)}, keep=5)["0"]
    assert found.counts.tolist() == [0, 0, 0]
    assert torch.equal(found.residual, torch.ones(3, FEATURES))


def test_taking_effects_leaves_no_trace() -> None:
    module, _ = linear_head()
    model = monitored(module)
    weight = module.get_parameter("1.weight")
    weight.grad = torch.full_like(weight, 7.0)
    x = torch.randn(5, FEATURES)
    effects(model, dictionary("0"), {"x": x}, keep=2)
    assert torch.equal(weight.grad, torch.full_like(weight, 7.0))
    assert module.get_parameter("1.bias").grad is None
    assert x.grad is None
    assert not x.requires_grad
    assert not any(part._forward_hooks for part in module.modules())
    assert fingerprint(module) == model.fingerprint


class Labels(nn.Module):
    """Answers with labels, which have no slope, or with one number for the whole batch."""

    def __init__(self, *, summed: bool) -> None:
        super().__init__()
        self.site = nn.Identity()
        self.summed = summed

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.site(x)
        return hidden.sum() if self.summed else hidden.argmax(dim=1)


@pytest.mark.parametrize(
    ("summed", "message"),
    [(False, "cannot be differentiated by site 'site'"), (True, "no row of numbers an input")],
)
def test_an_answer_without_slope_is_refused_with_the_remedy(summed: bool, message: str) -> None:
    model = monitored(Labels(summed=summed))
    with pytest.raises(ConfigError, match=rf"{message}.* returns scores"):
        effects(model, dictionary("site"), {"x": torch.ones(2, FEATURES)}, keep=2)
