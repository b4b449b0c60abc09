"""Taking away what an explanation names, against closed forms on a linear model."""

import math

import pytest
import torch
from torch import Tensor, nn

from mad.capture.model import MonitoredModel, fingerprint
from mad.components.base import Decomposition
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.joined import Joined
from mad.components.pooling import Pooling
from mad.components.unexplained import Unexplained
from mad.counterfactual import Counterfactual, counterfactuals
from mad.errors import ConfigError
from mad.types import Charge, Explanation, Inputs, Term
from tests.dictionaries import looking

FEATURES, LABELS = 5, 3
CENTRE = 0.25
SCALE = 2.0


def charge(term: Term, index: int, *, site: str = "0", bits: float = 9.0) -> Charge:
    return Charge(site, term, index, bits, 1.0, 0.0, None)


def named(*charges: Charge) -> Explanation:
    return Explanation(charges, 0.0)


def dictionary(site: str, directions: Tensor, *, pooling: Pooling = "auto") -> Dictionary:
    """Read some directions, each a component, through a centre and a scale."""
    components, coordinates = directions.shape
    centre = torch.full((coordinates,), CENTRE)
    bias = torch.zeros(components)
    return topk_dictionary(
        site=site,
        pooling=pooling,
        k=components,
        encoder=directions.T,
        bias=bias,
        decoder=directions,
        centre=centre,
        scale=torch.tensor(SCALE),
    )


def whole() -> Dictionary:
    """Read every coordinate but the last, which is left to the residual."""
    return dictionary("0", torch.eye(FEATURES)[:-1])


def linear_head(weight: Tensor) -> nn.Sequential:
    """Return a model whose answer is linear in the site ``0``."""
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        head.weight.copy_(weight)
    return nn.Sequential(nn.Identity(), head)


def monitored(module: nn.Module) -> MonitoredModel:
    return MonitoredModel.of(module, name="m", inputs=["x"])


def found(
    module: nn.Module, x: Tensor, explanation: Explanation, decomposition: Decomposition
) -> list[Counterfactual]:
    inputs: Inputs = {"x": x}
    return list(counterfactuals(monitored(module), decomposition, inputs, explanation))


WEIGHT = torch.tensor(
    [[1.0, 0.0, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
)
X = torch.tensor([[3.0, 2.0, 0.0, 4.0, 4.5]])
"""The labels score 5, 2 and 4.5."""


def test_silenced_components_take_their_share_of_a_linear_answer() -> None:
    (one,) = found(linear_head(WEIGHT), X, named(charge("set", 0)), whole())
    assert (one.site, one.what, one.removed, one.absent) == ("0", "components", (0,), ())
    assert (one.label_before, one.label_after, one.is_changed) == (0, 2, True)
    # Label 0 loses what component 0 gave it: its magnitude, from the centre to 3.
    assert one.output_change == pytest.approx((3 - CENTRE) / math.sqrt(5**2 + 2**2 + 4.5**2))


@pytest.mark.parametrize(
    ("order", "removed"),
    [((0, 3, 1), (0,)), ((1, 3, 0), (1, 3)), ((1, 0, 3), (1, 0)), ((1,), (1,))],
)
def test_no_more_is_silenced_than_changes_the_label_in_the_order_of_the_explanation(
    order: tuple[int, ...], removed: tuple[int, ...]
) -> None:
    explanation = named(*(charge("set", index) for index in order))
    (one,) = found(linear_head(WEIGHT), X, explanation, whole())
    assert one.removed == removed
    # The label needs components 0 and 3; component 1 speaks for another.
    gone = X[0].clone()
    gone[list(removed)] = CENTRE
    after = WEIGHT @ gone
    assert one.label_after == int(after.argmax())
    before = WEIGHT @ X[0]
    assert one.output_change == pytest.approx(float((after - before).norm() / before.norm()))


def test_a_component_the_answer_does_not_need_changes_nothing_much() -> None:
    (one,) = found(linear_head(WEIGHT), X, named(charge("set", 1)), whole())
    assert (one.label_before, one.label_after, one.is_changed) == (0, 0, False)
    assert one.output_change == pytest.approx((2 - CENTRE) / math.sqrt(5**2 + 2**2 + 4.5**2))


def test_without_the_residual_the_reconstruction_answers() -> None:
    x = torch.tensor([[3.0, 2.0, 0.25, 4.0, 9.0]])
    (one,) = found(linear_head(WEIGHT), x, named(charge("residual", 4)), whole())
    assert (one.what, one.removed, one.absent) == ("residual", (), ())
    # Label 2 scores nothing but the centre, once its coordinate is no longer in the residual.
    assert (one.label_before, one.label_after) == (2, 0)
    assert one.output_change == pytest.approx((9 - CENTRE) / math.sqrt(5**2 + 2**2 + 9**2))


def test_without_components_the_residual_is_all_there_is() -> None:
    (one,) = found(linear_head(WEIGHT), X, named(charge("residual", 0)), Unexplained("0"))
    assert one.output_change == pytest.approx(1)
    assert one.label_after == 0


def test_what_is_named_though_silent_stays_silent_and_is_said_to() -> None:
    explanation = named(charge("set", 2), charge("set", 0))
    (one,) = found(linear_head(WEIGHT), X, explanation, whole())
    assert (one.removed, one.absent) == ((0,), (2,))
    assert one.is_changed
    (alone,) = found(linear_head(WEIGHT), X, named(charge("set", 0)), whole())
    assert alone.output_change == one.output_change
    assert found(linear_head(WEIGHT), X, named(charge("set", 2)), whole()) == []


def test_a_component_is_named_by_any_term_of_the_mechanism_and_taken_away_once() -> None:
    explanation = named(charge("output", 1), charge("magnitudes", 1), charge("set", 3))
    (one,) = found(linear_head(WEIGHT), X, explanation, whole())
    assert one.removed == (1, 3)


def test_only_what_costs_a_bit_more_than_is_typical_is_taken_away() -> None:
    usual = named(charge("set", 0, bits=1.9), charge("residual", 4, bits=0.5))
    assert found(linear_head(WEIGHT), X, usual, whole()) == []
    assert found(linear_head(WEIGHT), X, named(charge("neighbours", 0)), whole()) == []


def test_each_site_is_changed_alone_and_later_ones_answer_to_it() -> None:
    module = nn.Sequential(nn.Identity(), *linear_head(WEIGHT))
    directions = torch.eye(FEATURES)[:-1]
    both = Joined((dictionary("0", directions), dictionary("1", directions)))
    explanation = named(
        charge("set", 3, site="1"), charge("residual", 4, site="0"), charge("set", 3, site="0")
    )
    first, second, third = found(module, X, explanation, both)
    assert [(one.site, one.what) for one in (first, second, third)] == [
        ("0", "components"),
        ("0", "residual"),
        ("1", "components"),
    ]
    # The second site copies the first, so both changes give the same answer.
    assert first.output_change == pytest.approx(third.output_change)


def test_components_of_another_view_are_taken_from_the_site_behind_it() -> None:
    half = looking(dictionary("0", torch.eye(FEATURES)[:-1] / 2), suffix="half")
    both = Joined((whole(), half))
    explanation = named(charge("set", 0), charge("set", 0, site="0:half"))
    first, second = found(linear_head(WEIGHT), X, explanation, both)
    assert (first.site, second.site) == ("0", "0:half")
    # The magnitude and the direction are each half of the other view's.
    assert second.output_change == pytest.approx(first.output_change / 4)


@pytest.mark.parametrize(
    ("pooling", "positions"), [("last", [2]), ("mean", [0, 1, 2]), ("max", [0, 1, 2])]
)
def test_a_component_is_taken_from_the_positions_it_was_pooled_from(
    pooling: Pooling, positions: list[int]
) -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            kept: Tensor = self.site(x)
            return kept

    x = torch.full((1, 3, FEATURES), 1.0)
    decomposition = dictionary("site", torch.eye(FEATURES), pooling=pooling)
    (one,) = found(Sequence(), x, named(charge("set", 0, site="site")), decomposition)
    # One feature goes from 1 to the centre at so many positions, of an output of 15 ones.
    moved = (1 - CENTRE) * math.sqrt(len(positions))
    assert one.output_change == pytest.approx(moved / math.sqrt(15))


def test_a_component_of_a_convolutional_map_is_taken_from_every_position() -> None:
    module = nn.Sequential(nn.Identity(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)).abs() + 1
    mean, largest = x.mean(dim=(2, 3)), x.amax(dim=(2, 3))
    # One component: the mean and the maximum of channel 0 together.
    direction = torch.tensor([[0.6, 0.0, 0.8, 0.0]])
    (one,) = found(module, x, named(charge("set", 0)), dictionary("0", direction))
    strength = 0.6 * float(mean[0, 0] - CENTRE) + 0.8 * float(largest[0, 0] - CENTRE)
    assert one.output_change == pytest.approx(0.8 * strength / float(largest.norm()), rel=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    module = linear_head(WEIGHT)
    model = monitored(module)
    x = X.clone()
    explanation = named(charge("set", 0), charge("residual", 1))
    first = counterfactuals(model, whole(), {"x": x}, explanation)
    assert counterfactuals(model, whole(), {"x": x}, explanation) == first
    assert torch.equal(x, X)
    assert not any(part._forward_hooks for part in module.modules())
    assert fingerprint(module) == model.fingerprint


class Answers(nn.Module):
    """Answers in one of the ways that are no row of labels."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.site = nn.Identity()
        self.how = how

    def forward(self, x: Tensor) -> object:
        hidden: Tensor = self.site(x)
        match self.how:
            case "one number":
                return hidden.sum(dim=1)
            case "sum of all":
                return hidden.sum()
            case "complex":
                return torch.complex(hidden, hidden)
            case "zero at first":
                return (hidden - 1).abs().clamp_max(0) + (hidden != 1)
            case "not a number":
                return hidden * torch.inf * 0
            case _:
                return None


@pytest.mark.parametrize(
    ("how", "labels", "change"),
    [
        ("one number", (1, 1), 0.75 / 5),
        ("sum of all", (-1, -1), 0.75 / 5),
        ("complex", (-1, -1), 0.75 / math.sqrt(5)),
        ("zero at first", (0, 0), math.inf),
        ("not a number", (0, 0), math.inf),
    ],
)
def test_any_answer_can_be_compared(how: str, labels: tuple[int, int], change: float) -> None:
    x = torch.ones(1, FEATURES)
    decomposition = dictionary("site", torch.eye(FEATURES))
    (one,) = found(Answers(how), x, named(charge("set", 0, site="site")), decomposition)
    assert (one.label_before, one.label_after) == labels
    assert one.output_change == pytest.approx(change)


@pytest.mark.parametrize(
    ("how", "change"), [("sum of all", 1.5 / 5), ("complex", 0.75 * math.sqrt(2 / 5))]
)
def test_an_answer_that_is_no_row_of_labels_loses_all_that_is_named_at_once(
    how: str, change: float
) -> None:
    decomposition = dictionary("site", torch.eye(FEATURES))
    explanation = named(charge("set", 2, site="site"), charge("set", 0, site="site"))
    (one,) = found(Answers(how), torch.ones(1, FEATURES), explanation, decomposition)
    assert one.removed == (2, 0)
    assert one.output_change == pytest.approx(change)


def test_an_answer_of_zeros_that_stays_has_not_moved() -> None:
    weight = torch.zeros(LABELS, FEATURES)
    (one,) = found(linear_head(weight), X, named(charge("set", 0)), whole())
    assert (one.is_changed, one.output_change) == (False, 0.0)


def test_a_model_without_an_answer_is_refused() -> None:
    decomposition = dictionary("site", torch.eye(FEATURES))
    with pytest.raises(ConfigError, match="returns no tensor"):
        found(
            Answers("nothing"),
            torch.ones(1, FEATURES),
            named(charge("set", 0, site="site")),
            decomposition,
        )
