"""Laws of capture: looking must not touch, and one pass gives outputs and activations."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel, fingerprint
from mad.errors import ConfigError


class Various(nn.Module):
    """A module whose parts give a tuple and a dict, and one part that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.relu = nn.ReLU(inplace=True)
        self.pair = Pair()
        self.named = Named()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.relu(self.first(x))
        low, high = self.pair(hidden)
        return {"logits": self.named(self.relu(low + high))["state"], "low": low}


class Pair(nn.Module):
    """Gives a tuple."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x - 1, x + 1


class Named(nn.Module):
    """Gives a dict."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"state": 2 * x, "count": torch.ones(len(x), dtype=torch.int64)}


class Mixed(nn.Module):
    """Adds up what it is given, one by place and one by name."""

    def forward(self, x: Tensor, *, weight: Tensor, half: bool) -> Tensor:
        return (x + weight) / (2 if half else 1)


class Given(nn.Module):
    """A module whose part takes arguments by place and by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.mixed = Mixed()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        mixed: Tensor = self.mixed(hidden, weight=hidden.square(), half=True)
        return mixed


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(108, 2),
    )


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], tuple[int, ...]]] = {
    "in-place": (convolutional, ["0", "1", "2", "4"], (5, 1, 8, 8)),
    "inputs in-place": (convolutional, ["2<", "2", "4<0"], (5, 1, 8, 8)),
    "inputs by name": (Given, ["first<", "mixed<", "mixed<weight", "mixed"], (5, 3)),
    "tuple and dict": (Various, ["first", "pair@1", "named@state", "relu#2"], (5, 3)),
}


def plain_tensors(output: object) -> list[Tensor]:
    return list(output.values()) if isinstance(output, dict) else [output]  # type: ignore[list-item]  # tensor


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_bit_for_bit_the_models_own_and_nothing_changes(case: str) -> None:
    build, sites, shape = CASES[case]
    module = build()
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    inputs = torch.randn(shape)
    gradients = [parameter.grad for parameter in module.parameters()]
    before = plain_tensors(module(inputs.clone()))
    run = capture(model, sites, {"x": inputs.clone()})
    after = plain_tensors(module(inputs.clone()))
    for expected, seen, again in zip(before, run.outputs.values(), after, strict=True):
        assert torch.equal(expected, seen)
        assert torch.equal(expected, again)
    assert not any(part._forward_hooks for part in module.modules())
    assert not any(part._forward_pre_hooks for part in module.modules())
    assert [parameter.grad for parameter in module.parameters()] == gradients
    assert not module.training
    assert fingerprint(module) == model.fingerprint
    assert set(run.activations) == set(sites)


def test_an_activation_is_what_the_module_returned_even_if_changed_in_place_later() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    inputs = torch.randn(4, 2)
    seen = capture(model, ["0"], {"x": inputs}).activations["0"]
    assert torch.equal(seen, module.get_submodule("0")(inputs).detach())
    assert (seen < 0).any()


def test_what_goes_into_a_module_is_captured_before_the_module_changes_it() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    inputs = torch.randn(4, 2)
    seen = capture(model, ["0<", "1<", "0", "1"], {"x": inputs}).activations
    assert torch.equal(seen["0<"], inputs)
    assert torch.equal(seen["1<"], seen["0"])
    assert torch.equal(seen["1<"].relu(), seen["1"])
    assert (seen["1<"] < 0).any()


def test_inputs_are_named_by_place_or_by_name() -> None:
    model = MonitoredModel.of(Given(), name="m", inputs=["x"])
    seen = capture(model, ["first", "mixed<0", "mixed<weight"], {"x": torch.randn(4, 3)})
    assert torch.equal(seen.activations["mixed<0"], seen.activations["first"])
    assert torch.equal(seen.activations["mixed<weight"], seen.activations["first"].square())


def test_one_of_several_calls_is_captured_by_what_goes_into_it() -> None:
    model = MonitoredModel.of(Various(), name="m", inputs=["x"])
    seen = capture(model, ["relu#2<", "first"], {"x": torch.randn(4, 3)}).activations
    torch.testing.assert_close(seen["relu#2<"], 2 * seen["first"].relu())


def test_a_model_that_would_train_is_refused_before_it_runs() -> None:
    module = convolutional()
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    module.get_submodule("1").train()
    with pytest.raises(ConfigError, match=r"module '1' .* training mode; call eval"):
        capture(model, ["0"], {"x": torch.randn(5, 1, 8, 8)})
    assert fingerprint(module) == model.fingerprint


def test_inputs_that_a_model_changes_in_place_stay_as_they_were() -> None:
    model = MonitoredModel.of(
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)), name="m", inputs=["x"]
    )
    inputs = -torch.ones(2, 3)
    capture(model, ["0"], {"x": inputs})
    assert torch.equal(inputs, -torch.ones(2, 3))


def test_a_model_that_switches_gradients_on_gives_plain_numbers() -> None:
    class Grads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                low, high = self.pair(self.linear(x))
                return low, high

    model = MonitoredModel.of(Grads(), name="m", inputs=["x"])
    run = capture(model, ["linear", "pair@1"], {"x": torch.ones(2, 3)})
    seen = [*run.outputs.values(), *run.activations.values()]
    assert [tensor.requires_grad for tensor in seen] == [False] * 4


def test_looking_leaves_modes_gradients_and_chance_as_they_were() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
    module.get_parameter("0.weight").requires_grad_(False)
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    chance = torch.get_rng_state()
    capture(model, ["1"], {"x": torch.ones(2, 3)})
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.is_grad_enabled()
    assert [weight.requires_grad for weight in module.parameters()] == [False, True, True, True]
    assert not any(part.training for part in module.modules())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_integers_that_go_into_a_module_are_exact(dtype: torch.dtype) -> None:
    model = MonitoredModel.of(nn.Sequential(nn.Embedding(200, 2)), name="m", inputs=["x"])
    tokens = torch.tensor([[199, 0], [7, 1]], dtype=dtype)
    found = capture(model, ["0<"], {"x": tokens}).activations["0<"]
    assert found.dtype == torch.float64
    assert found.tolist() == tokens.tolist()


def test_hooks_are_removed_when_the_model_fails() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(99, 1))
    model = MonitoredModel.of(module, name="m", inputs=["x"])
    with pytest.raises(RuntimeError):
        capture(model, ["0"], {"x": torch.ones(1, 2)})
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("nowhere", "no module named 'nowhere'"),
        ("relu<", "runs 2 times .* 'relu#1<'"),
        ("pair<1", r"no input '1'; it has \['0'\]"),
        ("relu", "runs 2 times .* 'relu#1'"),
        ("relu#3", "ran 2 times"),
        ("pair@7", r"no output '7'; it has \['output_0', 'output_1'\]"),
        ("named@count", "int64"),
    ],
)
def test_a_site_that_cannot_be_read_is_refused_with_the_remedy(site: str, message: str) -> None:
    model = MonitoredModel.of(Various(), name="m", inputs=["x"])
    with pytest.raises(ConfigError, match=message):
        capture(model, [site], {"x": torch.ones(2, 3)})


def test_a_site_without_a_batch_axis_is_refused() -> None:
    class Summary(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(dim=0)

    model = MonitoredModel.of(nn.Sequential(Summary()), name="m", inputs=["x"])
    with pytest.raises(ConfigError, match=r"shape \(3,\) for 5 inputs"):
        capture(model, ["0"], {"x": torch.ones(5, 3)})


def test_the_fingerprint_changes_with_one_weight_and_with_the_architecture() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    other = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    other.load_state_dict(module.state_dict())
    before = fingerprint(module)
    assert fingerprint(other) != before
    with torch.no_grad():
        module.get_parameter("0.weight")[0, 0] += 1e-6
    assert fingerprint(module) != before
