"""The monitored model is built by the operator's own code, and its weights are never unpickled."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model

from mad.capture.loading import load_model
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError

SOURCE = """
from torch import nn
def build(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.ReLU())
def text():
    return "no module"
def tied():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    return module
def broken(width=3):
    raise ValueError(f"width {width} is odd")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(SOURCE)
    torch.manual_seed(1)
    save_file(torch.nn.Sequential(torch.nn.Linear(2, 3)).state_dict(), tmp_path / "w.safetensors")
    return tmp_path


def load(
    folder: Path, factory: str = "net.py:build", weights: str = "w.safetensors", **arguments: object
) -> MonitoredModel:
    return load_model(
        factory, folder / weights, name="net", inputs=["x"], arguments=arguments, base=folder
    )


def first_weight(model: MonitoredModel) -> torch.Tensor:
    return model.module.get_parameter("0.weight").detach()


def test_a_factory_in_a_file_gets_the_weights(folder: Path) -> None:
    model = load(folder)
    torch.manual_seed(1)
    expected = torch.nn.Linear(2, 3)
    assert torch.equal(first_weight(model), expected.weight.detach())
    assert not model.module.training


def test_tied_weights_that_safetensors_stored_once_are_loaded(folder: Path) -> None:
    layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    layers[1].weight = layers[0].weight
    save_model(torch.nn.Sequential(*layers), str(folder / "tied.safetensors"))
    loaded = load(folder, "net.py:tied", weights="tied.safetensors").module.state_dict()
    for name, expected in torch.nn.Sequential(*layers).state_dict().items():
        assert torch.equal(loaded[name], expected)


def test_the_same_specification_has_the_same_fingerprint(folder: Path) -> None:
    assert load(folder).fingerprint == load(folder).fingerprint


def test_half_precision_weights_load_into_the_modules_own_type(folder: Path) -> None:
    half = {key: value.half() for key, value in load(folder).module.state_dict().items()}
    save_file(half, folder / "half.safetensors")
    assert first_weight(load(folder, weights="half.safetensors")).dtype == torch.float32


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("net.py", "must be 'package.module:callable'"),
        ("absent.py:build", "there is no file .*absent.py"),
        ("net.py:absent", "no callable 'absent'"),
        ("net.py:text", "returned str, not a torch.nn.Module"),
        ("net.py:broken", r"net.py:broken cannot be called with {}: .*width 3 is odd"),
        ("no_such_package.net:build", "cannot import 'no_such_package.net'"),
        (".net:build", "cannot import '.net'"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused(folder: Path, factory: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(folder, factory)


def test_an_argument_the_factory_does_not_take_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="depth"):
        load(folder, depth=2)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="does not fit the module"):
        load(folder, width=4)


def test_a_pickle_is_refused_unopened_with_the_remedy(folder: Path) -> None:
    torch.save({"0.weight": torch.ones(3, 2)}, folder / "w.pt")
    with pytest.raises(ConfigError, match=r"looks like a pickle.*save_file"):
        load(folder, weights="w.pt")


def test_truncated_weights_are_refused(folder: Path) -> None:
    content = (folder / "w.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(content[:-4])
    with pytest.raises(ConfigError, match="not a whole safetensors file"):
        load(folder, weights="cut.safetensors")


def test_missing_weights_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none.safetensors"):
        load(folder, weights="none.safetensors")


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    broken = {"0.weight": torch.full((3, 2), torch.nan), "0.bias": torch.zeros(3)}
    save_file(broken, folder / "nan.safetensors")
    with pytest.raises(ConfigError, match=r"'0.weight' holds NaN"):
        load(folder, weights="nan.safetensors")
