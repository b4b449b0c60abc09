"""Laws of editing: it changes what comes after, and leaves no trace; so do gradients."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import Tensor, nn

from mad.capture.edit import Edit, run_edited
from mad.capture.gradients import slopes
from mad.capture.hooks import Outputs, capture
from mad.capture.model import MonitoredModel, fingerprint
from mad.errors import ConfigError
from tests.contracts.test_capture import CASES, Given, plain_tensors

Halves = namedtuple("Halves", "low high")  # what a model without types returns


class Record(OrderedDict[str, Tensor]):
    """A mapping with a name of its own, as language models return."""

    @property
    def state(self) -> Tensor:
        return self["state"]


class Returns(nn.Module):
    """Gives two tensors in a container of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> object:
        match self.kind:
            case "tuple":
                return (x, 2 * x)
            case "list":
                return [x, 2 * x]
            case "named tuple":
                return Halves(x, 2 * x)
            case _:
                return Record(state=2 * x, other=x)


class Reads(nn.Module):
    """Adds up what its part returns, in the way that suits its kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.part = Returns(kind)

    def forward(self, x: Tensor) -> Tensor:
        made = self.part(x)
        match self.kind:
            case "record":
                second = made.state
            case "named tuple":
                second = made.high
            case _:
                second = made[1]
        assert isinstance(second, Tensor)
        return second


def monitored(module: nn.Module) -> MonitoredModel:
    return MonitoredModel.of(module, name="m", inputs=["x"])


def first_output(outputs: Outputs) -> Tensor:
    return next(iter(outputs.values()))


def total(outputs: Outputs) -> Tensor:
    return first_output(outputs).flatten(1).sum(dim=1)


def untouched(activation: Tensor) -> Tensor:
    return activation


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("edited", [False, True])
def test_without_a_change_outputs_are_bit_for_bit_the_models_own(case: str, edited: bool) -> None:
    build, sites, shape = CASES[case]
    module = build()
    model = monitored(module)
    inputs = torch.randn(shape)
    expected = plain_tensors(module(inputs.clone()))
    edits: dict[str, Edit] = dict.fromkeys(sites, untouched) if edited else {}
    found = run_edited(model, edits, {"x": inputs})
    for own, seen in zip(expected, found.values(), strict=True):
        assert torch.equal(own, seen)
    assert not any(part._forward_hooks for part in module.modules())
    assert fingerprint(module) == model.fingerprint
    assert not module.training


def test_what_follows_a_site_sees_the_edit() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    found = run_edited(monitored(module), {"1": torch.zeros_like}, {"x": x})
    bias = module.get_parameter("2.bias").detach()
    assert torch.equal(found["output"], bias.expand(5, 2))
    assert not torch.equal(module(x), found["output"])


# Half the sum of 2, by place, and of 4, by name, one of which becomes 1.
@pytest.mark.parametrize(("site", "expected"), [("mixed<", 2.5), ("mixed<weight", 1.5)])
def test_what_goes_into_a_module_is_edited_in_its_place(site: str, expected: float) -> None:
    module = Given()
    nn.init.zeros_(module.first.weight)
    nn.init.constant_(module.first.bias, 2)
    outputs = run_edited(
        monitored(module),
        {site: lambda given: torch.full_like(given, 1.0)},
        {"x": torch.ones(2, 3)},
    )
    assert torch.equal(first_output(outputs), torch.full((2, 4), expected))


def test_integers_that_go_into_a_module_are_edited_as_integers() -> None:
    module = nn.Sequential(nn.Embedding(5, 2))
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    tokens = torch.tensor([[4, 0], [2, 1]])
    found = run_edited(model, {"0<": lambda given: given.flip(1)}, {"x": tokens})
    assert torch.equal(found["output"], module(tokens.flip(1)))


def test_what_is_only_kept_needs_no_gradient() -> None:
    module = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 1))
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    tokens = torch.tensor([4, 0])
    found = slopes(
        model, ["0"], {"x": tokens}, of=lambda out: out["output"][:, 0], also_keep=["0<"]
    )
    assert found.activations["0<"].tolist() == [4.0, 0.0]
    assert tuple(found.gradients) == ("0",)
    weight = module.get_parameter("1.weight")
    torch.testing.assert_close(found.gradients["0"], weight.expand(2, 2))


def test_a_later_site_is_edited_after_an_earlier_one() -> None:
    module = nn.Sequential(nn.Identity(), nn.Identity())
    edits: dict[str, Edit] = {"1": lambda h: 2 * h, "0": lambda h: h + 1}
    found = run_edited(monitored(module), edits, {"x": torch.ones(1, 1)})
    assert found["output"].tolist() == [[4.0]]


def test_an_edit_cannot_reach_the_callers_inputs() -> None:
    x = torch.ones(2, 3)
    run_edited(monitored(nn.Sequential(nn.Identity())), {"0": lambda h: h.mul_(0)}, {"x": x})
    assert torch.equal(x, torch.ones(2, 3))


def test_one_of_several_calls_is_edited() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.same(x), self.same(x)], dim=1)

    found = run_edited(monitored(Twice()), {"same#2": torch.neg}, {"x": torch.ones(1)})
    assert found["output"].tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize(
    ("kind", "site"),
    [
        ("tuple", "part@1"),
        ("list", "part@output_1"),
        ("named tuple", "part@1"),
        ("record", "part@state"),
        ("record", "part"),
    ],
)
def test_an_entry_of_any_kind_of_output_is_edited_in_its_place(kind: str, site: str) -> None:
    found = run_edited(monitored(Reads(kind)), {site: torch.neg}, {"x": torch.ones(2, 1)})
    assert found["output"].tolist() == [[-2.0], [-2.0]]


def test_a_mapping_that_the_model_keeps_is_left_alone() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = Record(state=torch.ones(2, 1))

        def forward(self, x: Tensor) -> Record:  # noqa: ARG002  # it answers what it kept
            return self.kept

    module = nn.Sequential(Keeps())
    found = run_edited(monitored(module), {"0": torch.neg}, {"x": torch.ones(2, 1)})
    assert found["state"].tolist() == [[-1.0], [-1.0]]
    assert module(torch.ones(2, 1))["state"].tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("nowhere", "no module named 'nowhere'"),
        ("part@7", r"no output '7'; it has \['output_0', 'output_1'\]"),
        ("part#2@1", "'part#2@1' ran 1 times"),
    ],
)
def test_a_site_that_cannot_be_edited_is_refused(site: str, message: str) -> None:
    module = Reads("tuple")
    with pytest.raises(ConfigError, match=message):
        run_edited(monitored(module), {site: untouched}, {"x": torch.ones(2, 1)})
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_leave_no_trace_and_see_the_models_own_numbers(case: str, frozen: bool) -> None:
    build, sites, shape = CASES[case]
    module = build().requires_grad_(not frozen)
    model = monitored(module)
    inputs = torch.randn(shape)
    expected = plain_tensors(module(inputs.clone()))
    with torch.no_grad():
        seen = slopes(model, sites[:2], {"x": inputs}, of=total)
    for own, found in zip(expected, seen.outputs.values(), strict=True):
        assert torch.equal(own, found)
        assert not found.requires_grad
    captured = capture(model, sites[:2], {"x": inputs}).activations
    for site in sites[:2]:
        assert torch.equal(seen.activations[site], captured[site])
        assert seen.gradients[site].shape == captured[site].shape
    assert not any(part._forward_hooks for part in module.modules())
    assert {weight.grad for weight in module.parameters()} == {None}
    assert {weight.requires_grad for weight in module.parameters()} == {not frozen}
    assert fingerprint(module) == model.fingerprint


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_of_a_linear_model_are_its_weights(mode: type, frozen: bool) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2))
    module.requires_grad_(not frozen)
    with mode():
        x = torch.randn(5, 3)
        seen = slopes(monitored(module), ["0", "1"], {"x": x}, of=total)
    expected = module.get_parameter("2.weight").detach().sum(dim=0).expand(5, 4)
    # An earlier site is not cut off by a later one.
    torch.testing.assert_close(seen.gradients["0"], expected)
    torch.testing.assert_close(seen.gradients["1"], expected)


class Cut(nn.Module):
    """Gives an answer that no derivative reaches through."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.aside = nn.Linear(3, 3)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.linear(x)
        self.aside(x)
        match self.how:
            case "argmax":
                return hidden.argmax(dim=1, keepdim=True).float()
            case "no_grad":
                with torch.no_grad():
                    return 2 * hidden
            case "inference":
                with torch.inference_mode():
                    return 2 * hidden
            case _:
                return hidden


@pytest.mark.parametrize(
    ("how", "site"),
    [("argmax", "linear"), ("no_grad", "linear"), ("inference", "linear"), ("aside", "aside")],
)
def test_an_answer_that_cannot_be_differentiated_is_refused_with_the_remedy(
    how: str, site: str
) -> None:
    module = Cut(how)
    with pytest.raises(ConfigError, match=rf"differentiated by site '{site}'.* returns scores"):
        slopes(monitored(module), [site], {"x": torch.ones(2, 3)}, of=total)
    assert not any(part._forward_hooks for part in module.modules())
