"""Crosscoders: several sites explained by one set of components, none of them drowned."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import train
from mad.components.dictionaries.training import Training
from mad.counterfactual import counterfactuals
from mad.errors import ConfigError
from mad.types import Charge, Explanation

FEATURES, EARLY, LATE = 40, 16, 24
LOUDER = 50.0
LOOK = Look(("early", "late"), ("early", "late"), "flatten")


class Model(nn.Module):
    """Writes each feature along a direction at two sites, at the second much larger."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = (
            functional.normalize(torch.randn(FEATURES, n, generator=generator), dim=1)
            for n in (EARLY, LATE)
        )
        # The first ten features are only at the second site.
        self.first[:10] = 0
        self.early, self.late = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        late: Tensor = self.late(LOUDER * x @ self.second)
        early: Tensor = self.early(x @ self.first)
        return late + early.sum(dim=1, keepdim=True)


MODEL = MonitoredModel.of(Model(), name="m", inputs=["x"])


def inputs(count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(count, FEATURES, generator=generator) < 2 / FEATURES
    return {"x": active * (0.5 + torch.rand(count, FEATURES, generator=generator))}


def captured(count: int, seed: int) -> dict[str, Tensor]:
    return dict(capture(MODEL, LOOK.sites, inputs(count, seed)).activations)


@pytest.fixture(scope="module")
def crosscoder() -> Dictionary:
    plan = DictionaryPlan(width=80, k=3, steps=200, batch_size=256, learning_rate=1e-2)
    activations = captured(4_000, seed=0)
    return train(
        LOOK,
        LOOK.examples(activations),
        plan,
        step_done=lambda *_: None,
        widths=LOOK.widths(activations),
    )


def test_one_set_of_components_explains_both_sites(crosscoder: Dictionary) -> None:
    activity = crosscoder.activity(captured(500, seed=1))
    assert tuple(activity) == ("early", "late")
    assert activity["early"].num_components == 80
    assert activity["late"].num_components == 0
    assert not len(activity["late"].components)
    for site, width in (("early", EARLY), ("late", LATE)):
        own = activity[site]
        assert own.residual.shape == (500, width)
        away = own.activation - own.activation.mean(dim=0)
        assert own.residual.square().sum() < 0.15 * away.square().sum()


def test_a_component_has_a_direction_at_each_site(crosscoder: Dictionary) -> None:
    """Features are found by the pair of their directions, in the units of each site."""
    module = MODEL.module
    assert isinstance(module, Model)
    truth = torch.cat([module.first, module.second], dim=1)
    every = torch.arange(80)
    early, late = (crosscoder.directions(view, every) for view in ("early", "late"))
    found = torch.cat([early, late / LOUDER], dim=1)
    likeness = functional.normalize(truth, dim=1) @ functional.normalize(found, dim=1).T
    assert (likeness.amax(dim=1) > 0.95).float().mean() > 0.9
    only_late = likeness[:10].argmax(dim=1)
    assert (early[only_late].norm(dim=1) < 0.15 * late[only_late].norm(dim=1) / LOUDER).all()


@pytest.mark.parametrize("kind", ["relu", "gated"])
def test_a_penalty_weighs_a_latent_by_its_lengths_at_all_sites(
    kind: Literal["relu", "gated"],
) -> None:
    examples = LOOK.examples(captured(300, seed=5))
    plan = DictionaryPlan(kind=kind, width=12, k=2, steps=3)
    training = Training.begin(LOOK, examples, plan, widths=(EARLY, LATE))
    training.step(examples)
    decoder = training.learner.parameters["decoder"]
    lengths = decoder[:, :EARLY].norm(dim=1) + decoder[:, EARLY:].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(12))


def test_each_site_has_an_equal_share_of_the_squares() -> None:
    generator = torch.Generator().manual_seed(2)
    small = torch.randn(500, 4, generator=generator)
    large = 1_000 * torch.randn(500, 12, generator=generator) + 7
    frame = Frame.of(torch.cat([small, large], dim=1), name="two", widths=(4, 12))
    normalised = frame.normalised(torch.cat([small, large], dim=1))
    squares = normalised.square().sum(dim=0) / 500
    torch.testing.assert_close(squares[:4].sum(), torch.tensor(8.0))
    torch.testing.assert_close(squares[4:].sum(), torch.tensor(8.0))
    restored = frame.restored(normalised)
    torch.testing.assert_close(restored, torch.cat([small, large], dim=1))


def test_a_site_that_never_changes_is_refused() -> None:
    vectors = torch.cat([torch.randn(50, 3), torch.full((50, 2), 0.1)], dim=1)
    with pytest.raises(ConfigError, match="'a', 'b': number 2 gives the same vector"):
        Training.begin(
            Look(("a", "b"), ("a", "b"), "flatten"),
            Examples.own(vectors),
            DictionaryPlan(width=4),
            widths=(3, 2),
        )


def test_a_crosscoder_is_read_back_bit_for_bit(crosscoder: Dictionary, tmp_path: Path) -> None:
    save_dictionaries(tmp_path, [crosscoder], seen=torch.zeros(1, dtype=torch.int64))
    again = load_dictionaries(tmp_path)
    assert again.parts[0].fingerprint == crosscoder.fingerprint
    activations = captured(20, seed=3)
    for view, activity in again.activity(activations).items():
        assert torch.equal(activity.residual, crosscoder.activity(activations)[view].residual)


def test_a_residual_is_taken_away_at_its_own_site(crosscoder: Dictionary) -> None:
    one = inputs(1, seed=4)
    charge = Charge("late", "residual", 0, 9.0, 1.0, 1.0, None)
    (found,) = counterfactuals(MODEL, crosscoder, one, Explanation((charge,), 0.0))
    residual = crosscoder.activity(capture(MODEL, LOOK.sites, one).activations)["late"].residual
    expected = residual.norm() / MODEL.module(one["x"]).norm()
    assert found.output_change == pytest.approx(float(expected), rel=1e-4)
