"""A checkpoint made by ApolloResearch/apd answers as the library does, whatever takes part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mad.components.formats.parameters import apd
from mad.components.parameters.apd.files import Kept, load_components, load_seen, save_components
from mad.components.parameters.apd.passes import Visited
from mad.errors import ConfigError
from mad.tensors import read_tensors
from tests.formats.cases import GOLDEN

RUN = GOLDEN / "apd_tms"


class Toy(nn.Module):
    """The library's toy model of superposition, with one layer more."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(5, 2, bias=False)
        self.hidden_layers = nn.ModuleList([nn.Linear(2, 2, bias=False)])
        self.linear2 = nn.Linear(2, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct."""
        return torch.relu(self.linear2(self.hidden_layers[0](self.linear1(x))))


def toy(instance: int, *, state: dict[str, Tensor] | None = None) -> Toy:
    """Return a model that all components of an instance add up to."""
    found = state or torch.load(RUN / "spd_model_7.pth", weights_only=True)
    first, hidden = (
        (found[f"{name}.A"][instance] @ found[f"{name}.B"][instance]).sum(dim=0)
        for name in ("linear1", "hidden_layers.0")
    )
    model = Toy()
    with torch.no_grad():
        model.linear1.weight.copy_(first.T)
        model.linear2.weight.copy_(first)
        model.linear2.bias.copy_(found["b_final"][instance])
        model.get_parameter("hidden_layers.0.weight").copy_(hidden.T)
    return model


@pytest.mark.parametrize("instance", [0, 1])
def test_components_answer_as_in_the_library(instance: int) -> None:
    model, expected = toy(instance), read_tensors(RUN / "expected.safetensors")
    found = apd.read(RUN, model, pickles=True)
    assert (found.number, found.count) == (instance, 2)
    assert found.missed == pytest.approx(0.0, abs=1e-10)
    visited = Visited(model, [one.layer for one in found.components.values()])
    given, used = expected["given"][:, instance], expected["used"][:, instance]
    answer, _ = visited.with_components(given.contiguous(), found.components, used)
    torch.testing.assert_close(answer, expected["answer"][:, instance])


def test_components_survive_our_own_directory(tmp_path: Path) -> None:
    model = toy(0)
    components = apd.read(RUN, model, pickles=True).components
    seen = torch.tensor([7])
    save_components(tmp_path / "ours", Kept(components, None, seen), model)
    kept = load_components(tmp_path / "ours", model)
    assert kept.seen.tolist() == load_seen(tmp_path / "ours").tolist() == [7]
    again = kept.components
    assert again.keys() == components.keys()
    for name, one in components.items():
        assert again[name].layer == one.layer
        assert torch.equal(again[name].a, one.a)
        assert torch.equal(again[name].b, one.b)
    model.linear1 = nn.Linear(4, 2)
    with pytest.raises(ConfigError, match="'linear1' are not those of a matrix of 4 by 2"):
        load_components(tmp_path / "ours", model)


def test_a_checkpoint_without_an_axis_of_instances_is_one(tmp_path: Path) -> None:
    """So it is for early ones, whose only layer has no name."""
    state = torch.load(RUN / "spd_model_7.pth", weights_only=True)
    model = toy(1, state=state)
    bare = {
        "A": state["linear1.A"][1],
        "B": state["linear1.B"][1],
        "hidden_layers.0.A": state["hidden_layers.0.A"][1],
        "hidden_layers.0.B": state["hidden_layers.0.B"][1],
        "b_final": state["b_final"][1],
    }
    torch.save(bare, tmp_path / "spd_model_1.pth")
    (tmp_path / "final_config.yaml").write_text("C: 3\n")
    found = apd.read(tmp_path, model, pickles=True)
    assert (found.count, set(found.components)) == (1, {"linear1", "hidden_layers.0", "linear2"})


BROKEN: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda s: s.pop("linear1.B"), r"has no tensor 'linear1.B'"),
    (lambda s: s.update({"linear1.A": torch.zeros(2, 3, 4, 3)}), r"model's matrix is 5 by 2"),
    (lambda s: s.update({"linear1.B": torch.zeros(3, 2)}), r"components, rows and columns"),
    (lambda s: s["linear1.A"].neg_(), r"nearest instance misses .* times their squares"),
    (lambda s: s.update({"other.A": s["linear1.A"]}), r"no module named 'other'"),
    (lambda s: s.clear(), r"has no tensor <layer>.A"),
]


@pytest.mark.parametrize(("edit", "said"), BROKEN)
def test_a_damaged_checkpoint_is_refused(
    edit: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    model, state = toy(0), torch.load(RUN / "spd_model_7.pth", weights_only=True)
    edit(state)
    torch.save(state, tmp_path / "spd_model_7.pth")
    (tmp_path / "final_config.yaml").write_text("C: 3\n")
    with pytest.raises(ConfigError, match=said):
        apd.read(tmp_path, model, pickles=True)
