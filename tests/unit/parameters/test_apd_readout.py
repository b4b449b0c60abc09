"""What an input uses of a model's components: by itself, by fixed thresholds."""

import pytest
import torch
from torch import Tensor, nn

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.apd.readout import ApdDecomposition
from mad.components.parameters.apd.rules import Above, Asked, Largest, Rule, Thresholds
from mad.components.parameters.layers import matrix_layer
from mad.errors import ConfigError


def superposed() -> tuple[nn.Module, Components]:
    """Three features in two dimensions; a component for each, in both layers.

    Features are at 0, 90 and 180 degrees, so that the first and third disturb each other, below
    zero, where the ReLU stops it.
    """
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 3, bias=False), nn.ReLU())
    model.get_parameter("0.weight").data = weight.T
    model.get_parameter("1.weight").data = weight.clone()
    places = torch.eye(3).unsqueeze(2)
    rows = weight.unsqueeze(1)
    return model, {
        "0": Factors(matrix_layer(model, "0"), places, rows),
        "1": Factors(matrix_layer(model, "1"), rows.mT, places.mT),
    }


def seen(rule: Rule, inputs: Tensor) -> dict[str, list[tuple[list[int], list[float]]]]:
    """Return the components and magnitudes of each input in each layer."""
    model, components = superposed()
    decomposition = ApdDecomposition.of(model, components, rule)
    monitored = MonitoredModel.of(model, name="tms", inputs=["x"])
    activations = capture(monitored, decomposition.sites, {"x": inputs}).activations
    found = {}
    for view, activity in decomposition.activity(activations).items():
        rows = [activity.row(place) for place in range(len(activity))]
        found[view] = [(one.components.tolist(), one.magnitudes.tolist()) for one in rows]
    return found


def test_an_input_uses_the_components_of_its_features() -> None:
    """The first and second are on at 0.5 and 0.75; 0.75 comes out once through each layer.

    The attribution of a feature of value x that answers for itself is ``(x + x)^2``: one share of
    each layer.
    """
    model, components = superposed()
    decomposition = ApdDecomposition.of(model, components, Largest(1))
    inputs = torch.tensor([[0.5, 0.75, 0.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[1.0, 2.25, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(decomposition.attributions(inputs), expected)
    above = Above(torch.tensor([0.5, 3.0, 0.5]))
    assert seen(above, inputs)["0"] == [([0], [0.5]), ([], [])]
    assert seen(Largest(2), inputs)["0"] == [([0, 1], [0.5, 0.75]), ([], [])]
    assert seen(Largest(2), inputs)["1"] == [([0, 1], [0.5, 0.75]), ([], [])]


def test_one_threshold_for_all_keeps_as_many_as_training_does() -> None:
    """Eight attributions of four inputs, of which half a component an input are kept: two."""
    found = torch.tensor([[9.0, 1.0], [2.0, 8.0], [3.0, 4.0], [6.0, 5.0]])
    rule = Above.of_all(found, active=0.5)
    assert rule.thresholds.tolist() == [6.0, 6.0]
    assert rule(found).tolist() == [[True, False], [False, True], [False] * 2, [False] * 2]


@pytest.mark.parametrize("thresholds", ["one", "each"])
def test_where_all_components_are_to_be_used_all_that_account_for_anything_are(
    thresholds: Thresholds,
) -> None:
    found = torch.tensor([[9.0, 1.0], [0.0, 8.0]])
    rule = Asked(thresholds, 2.0).fit(found)
    assert rule(found).tolist() == [[True, True], [False, True]]


def test_a_number_for_each_input_needs_no_thresholds() -> None:
    found = torch.tensor([[9.0, 1.0], [2.0, 8.0]])
    assert Asked("none", 1.0).fit(found) == Largest(1)
    assert Largest(1)(found).tolist() == [[True, False], [False, True]]


def test_a_threshold_for_each_lets_all_be_used_as_often() -> None:
    found = torch.stack([torch.arange(100.0), torch.arange(100.0) * 5], dim=1)
    rule = Above.of_each(found, active=0.2)
    assert rule(found).sum(dim=0).tolist() == [10, 10]


@pytest.mark.parametrize("rule", [Largest(1), Above(torch.tensor([0.3, 0.6, 0.9]))])
def test_what_an_input_uses_does_not_depend_on_its_companions(rule: Rule) -> None:
    inputs = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    together = seen(rule, inputs)
    for row in range(6):
        alone = seen(rule, inputs[row : row + 1])
        assert alone == {view: [rows[row]] for view, rows in together.items()}


def test_a_component_of_higher_rank_is_seen_along_its_largest_direction() -> None:
    """Of diag(3, 4) that is the second; the first's share is left to the residual."""
    model = nn.Sequential(nn.Linear(2, 2))
    model.get_parameter("0.weight").data = torch.diag(torch.tensor([3.0, 4.0]))
    factors = Factors(
        matrix_layer(model, "0"),
        torch.eye(2).unsqueeze(0),
        torch.diag(torch.tensor([3.0, 4.0])).unsqueeze(0),
    )
    decomposition = ApdDecomposition.of(model, {"0": factors}, Above(torch.zeros(1)))
    torch.testing.assert_close(
        decomposition.directions("0", torch.tensor([0])), torch.tensor([[0.0, 1.0]])
    )
    monitored = MonitoredModel.of(model, name="one", inputs=["x"])
    inputs = {"x": torch.tensor([[1.0, 0.5]])}
    activations = capture(monitored, decomposition.sites, inputs).activations
    found = decomposition.activity(activations)["0"]
    torch.testing.assert_close(found.magnitudes, torch.tensor([2.0]))
    torch.testing.assert_close(found.residual, torch.tensor([[3.0, 0.0]]))


def test_another_model_or_rule_is_refused() -> None:
    model, components = superposed()
    with pytest.raises(ConfigError, match="a rule of 4 components was given for 3 of them"):
        ApdDecomposition.of(model, components, Largest(4))
    with pytest.raises(ConfigError, match="a rule of 2 components was given for 3 of them"):
        ApdDecomposition.of(model, components, Above(torch.zeros(2)))
    model.get_parameter("1.weight").data.neg_()
    with pytest.raises(ConfigError, match=r"of layer '1' miss 4 times the squares"):
        ApdDecomposition.of(model, components, Largest(1))
