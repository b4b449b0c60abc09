"""Components on disk: whole, or refused by a sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mad.components.parameters.apd.components import Factors
from mad.components.parameters.apd.files import (
    COMPONENTS,
    INDEX,
    Kept,
    ReadOut,
    load_components,
    load_seen,
    save_components,
)
from mad.components.parameters.apd.rules import Above, Asked, Largest
from mad.components.parameters.layers import matrix_layer
from mad.errors import ConfigError
from mad.tensors import read_tensors


def model() -> nn.Module:
    """Return a layer that doubles two numbers."""
    module = nn.Sequential(nn.Linear(2, 2))
    module.load_state_dict({"0.weight": 2 * torch.eye(2), "0.bias": torch.zeros(2)})
    return module


def kept(read_out: ReadOut | None) -> Kept:
    """Return a component for each number."""
    halves = torch.eye(2).unsqueeze(2)
    factors = Factors(matrix_layer(model(), "0"), halves, 2 * halves.mT)
    return Kept({"0": factors}, read_out, torch.tensor([3, 5]))


@pytest.mark.parametrize("asked", [Asked("one", 0.5), Asked("each", 1.0), Asked("none", 2.0)])
def test_components_come_back_with_their_rule(asked: Asked, tmp_path: Path) -> None:
    rule = Largest(2) if asked.thresholds == "none" else Above(torch.tensor([0.25, 0.75]))
    save_components(tmp_path, kept(ReadOut(rule, asked)), model())
    found = load_components(tmp_path, model())
    assert found.read_out is not None
    assert found.read_out.asked == asked
    inputs = torch.tensor([[0.3, 0.4], [0.1, 0.2]])
    assert found.read_out.rule(inputs).tolist() == rule(inputs).tolist()
    assert load_seen(tmp_path).tolist() == [3, 5]
    before, after = (one.beside(model()) for one in (kept(ReadOut(rule, asked)), found))
    assert before.fingerprint == after.fingerprint


def test_without_a_rule_they_are_not_read_out(tmp_path: Path) -> None:
    save_components(tmp_path, kept(None), model())
    with pytest.raises(ConfigError, match="never read out on trusted inputs"):
        load_components(tmp_path, model()).beside(model())


def edited(**changes: object) -> Callable[[Path], None]:
    """Return what changes entries of an index."""

    def edit(directory: Path) -> None:
        path = directory / INDEX
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def louder(directory: Path) -> None:
    """Change a number of a component."""
    found = read_tensors(directory / COMPONENTS)
    found["a/0"] *= 2
    save_file(found, directory / COMPONENTS)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (louder, "components.safetensors was changed since it was written"),
        (lambda directory: (directory / COMPONENTS).unlink(), "cannot read"),
        (lambda directory: (directory / INDEX).write_text("{"), "is no index of components"),
        (lambda directory: (directory / INDEX).write_text("[]"), "is no index of components"),
        (edited(format=2), "has format 2, not 1"),
        (edited(layers=5), "is no index of components"),
        (edited(layers=[]), "has no components"),
        (edited(layers=["1"]), "no module named '1'"),
        (edited(digests={}), "is no index of components"),
        (edited(asked={"thresholds": "some", "active": 1.0}), "is no index of components"),
        (edited(asked={"thresholds": "each", "active": 1.0}), "has no thresholds"),
        (edited(model=""), "of a model with other weights"),
    ],
)
def test_what_was_damaged_is_refused(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    save_components(tmp_path, kept(None), model())
    damage(tmp_path)
    with pytest.raises(ConfigError, match=said):
        load_components(tmp_path, model())
