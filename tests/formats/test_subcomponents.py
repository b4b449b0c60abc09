"""Runs made by goodfire-ai/spd give the importances that the library computes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mad.components.formats.parameters import spd
from mad.components.formats.parameters.base import Imported, held_against
from mad.components.formats.parameters.spd_written import write
from mad.components.parameters.sigmoids import lower_leaky
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.thresholds import beside
from mad.errors import ConfigError
from mad.tensors import read_tensors
from tests.formats.cases import GOLDEN

NEAR = 1e-5
CASES = ["spd_mlp", "spd_vector_mlp", "spd_shared_mlp", "spd_identity", "spd_v1_5", "spd_v1_0"]


class Conv1D(nn.Module):
    """As transformers has it."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(source, target))
        self.bias = nn.Parameter(torch.zeros(target))


def target_of(name: str) -> nn.Module:
    """Return the model that a run decomposed, with the weights in its checkpoint."""
    out = nn.Linear(4, 3) if "v1" in name else Conv1D(4, 3)
    block = nn.ModuleDict({"linear": nn.Linear(4, 4, bias=False), "out_proj": out})
    model = nn.ModuleDict({"embed": nn.Embedding(7, 4), "block": block})
    state = torch.load(GOLDEN / name / "model_10.pth", weights_only=True)
    start = "model." if "v1" in name else "target_model."
    own = {key.removeprefix(start): one for key, one in state.items() if key.startswith(start)}
    model.load_state_dict(own)
    return model


def importances(part: Subcomponents, given: Tensor) -> Tensor:
    """Return what we make of a layer's input."""
    source = part.layer.rows(given) if part.importance.needs_source else None
    return lower_leaky(part.importance.logits(part.layer.inner(given, part.v), source))


def apart(imported: Imported, name: str) -> float:
    """Return how far our importances are from the library's own, at most."""
    expected = read_tensors(GOLDEN / name / "expected.safetensors")
    return max(
        float(
            (
                importances(part, expected[f"given/{part.layer.name}"])
                - expected[f"importance/{part.layer.name}"]
            )
            .abs()
            .max()
        )
        for part in imported.parts
    )


@pytest.mark.parametrize("name", CASES)
def test_importances_are_those_of_the_library(name: str) -> None:
    assert apart(spd.read(GOLDEN / name, pickles=True), name) < NEAR


@pytest.mark.parametrize("name", CASES)
def test_layers_are_told_by_the_weights_alone(name: str) -> None:
    kinds = {
        part.layer.name: part.layer.kind for part in spd.read(GOLDEN / name, pickles=True).parts
    }
    out = "linear" if "v1" in name else "conv1d"
    expected = {"block.linear": "linear", "block.out_proj": out, "embed": "embedding"}
    assert kinds == {path: kind for path, kind in expected.items() if path in kinds}


@pytest.mark.parametrize("name", CASES)
def test_subcomponents_miss_of_the_weights_what_their_rank_leaves(name: str) -> None:
    imported = spd.read(GOLDEN / name, pickles=True)
    for part in imported.parts:
        values = torch.linalg.svdvals(imported.matrices[part.layer.name])
        left = float(values[3:].square().sum() / values.square().sum())
        assert imported.missed(part) == pytest.approx(left, abs=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_model_that_was_decomposed_is_known_by_its_weights(name: str) -> None:
    imported = held_against(spd.read(GOLDEN / name, pickles=True), target_of(name))
    assert apart(imported, name) < NEAR


def test_another_model_is_refused() -> None:
    model = target_of("spd_mlp")
    with torch.no_grad():
        model.get_parameter("block.linear.weight")[0, 0] += 0.5
    with pytest.raises(ConfigError, match=r"those of 'block.linear' differ by up to 0.5"):
        held_against(spd.read(GOLDEN / "spd_mlp", pickles=True), model)


@pytest.mark.parametrize("is_own", [True, False])
def test_a_run_without_weights_is_known_by_what_it_adds_up_to(is_own: bool, tmp_path: Path) -> None:
    model = target_of("spd_mlp")
    if not is_own:
        with torch.no_grad():
            model.get_parameter("block.linear.weight").neg_()
    state = torch.load(GOLDEN / "spd_mlp" / "model_10.pth", weights_only=True)
    kept = {key: one for key, one in state.items() if not key.startswith("target_model.")}
    torch.save(kept, tmp_path / "model_1.pth")
    (tmp_path / "final_config.yaml").write_text("ci_fn_type: mlp\n")
    found = spd.read(tmp_path, pickles=True)
    assert not found.matrices
    if is_own:
        assert apart(held_against(found, model), "spd_mlp") < NEAR
    else:
        with pytest.raises(ConfigError, match=r"subcomponents of 'block.linear' miss 3.99"):
            held_against(found, model)


def test_a_model_of_another_size_is_refused() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(8, 4), "block": nn.ModuleDict()})
    model["block"] = target_of("spd_mlp").get_submodule("block")
    with pytest.raises(ConfigError, match=r"'embed' as a matrix of 7 by 4, and the model's is 8"):
        held_against(spd.read(GOLDEN / "spd_mlp", pickles=True), model)


def test_an_inserted_identity_is_left_out_and_named() -> None:
    imported = spd.read(GOLDEN / "spd_identity", pickles=True)
    assert [part.layer.name for part in imported.parts] == ["block.linear", "block.out_proj"]
    assert imported.left_out == (
        "block.linear.pre_identity: an identity that the run inserted, and the model has not",
    )


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_has_the_keys_of_main(name: str, tmp_path: Path) -> None:
    imported = held_against(spd.read(GOLDEN / name, pickles=True), target_of(name))
    write(imported, tmp_path / "run", model=target_of(name))
    written = torch.load(tmp_path / "run" / "model_0.pth", weights_only=True)
    if "v1" not in name:
        theirs = torch.load(GOLDEN / name / "model_10.pth", weights_only=True)
        kept = {key: one for key, one in theirs.items() if "pre_identity" not in key}
        assert written.keys() == kept.keys()
        assert all(torch.equal(written[key], one) for key, one in kept.items())
    assert apart(spd.read(tmp_path / "run", pickles=True), name) < NEAR


def older(state: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint of main as runs before September 2025 had it."""
    found = {}
    for key, tensor in state.items():
        name, _, factor = key.removeprefix("_components.").rpartition(".")
        was = key.replace("_ci_fns.", "_gates.").replace("target_model.", "patched_model.")
        if key.startswith("_components.") and factor in "UV":
            was = f"patched_model.{name.replace('-', '.')}.components.{factor}"
        elif key.startswith("target_model.block.") and key.endswith(".weight"):
            was = was.replace(".weight", ".original.weight")
        found[was] = tensor
    return found


def with_another_piece(part: Subcomponents) -> Subcomponents:
    """Add a piece that is needed where the first coordinate of a row exceeds one."""
    v, u = torch.eye(part.layer.source)[:, :1], torch.ones(1, part.layer.target)
    both = torch.cat([part.v, v], dim=1), torch.cat([part.u, u])
    return Subcomponents(part.layer, *both, beside(part.importance, v, reach=1.0))


@pytest.mark.parametrize("name", CASES[:3])
def test_a_run_has_one_number_of_hidden_units_whatever_was_added_to_a_layer(
    name: str, tmp_path: Path
) -> None:
    imported = held_against(spd.read(GOLDEN / name, pickles=True), target_of(name))
    parts = {part.layer.name: part for part in imported.parts}
    parts["block.linear"] = with_another_piece(parts["block.linear"])
    more = replace(imported, parts=tuple(parts.values()))
    write(more, tmp_path / "run", model=target_of(name))
    state = torch.load(tmp_path / "run" / "model_0.pth", weights_only=True)
    assert len({one.shape[-1] for key, one in state.items() if key.endswith("layers.0.b")}) == 1
    again = spd.read(tmp_path / "run", pickles=True)
    given = torch.tensor([[0.5, 0.0, 1.0, 0.0], [2.0, 1.0, 0.0, 0.0], [-2.0, 0.0, 0.0, 0.0]])
    (read,) = (part for part in again.parts if part.layer.name == "block.linear")
    found = importances(read, given)
    torch.testing.assert_close(found, importances(parts["block.linear"], given))
    assert found[:, -1].tolist() == [0.0, 1.0, 1.0]


def test_keys_of_runs_between_the_paper_and_main_are_known(tmp_path: Path) -> None:
    state = older(torch.load(GOLDEN / "spd_mlp" / "model_10.pth", weights_only=True))
    assert "patched_model.block.linear.components.U" in state
    assert "patched_model.block.linear.original.weight" in state
    assert "_gates.block-linear.layers.0.W" in state
    torch.save(state, tmp_path / "model_10.pth")
    (tmp_path / "final_config.yaml").write_text("ci_fn_type: mlp\n")
    assert (
        apart(held_against(spd.read(tmp_path, pickles=True), target_of("spd_mlp")), "spd_mlp")
        < NEAR
    )


def test_the_last_checkpoint_of_a_run_is_read(tmp_path: Path) -> None:
    state = torch.load(GOLDEN / "spd_mlp" / "model_10.pth", weights_only=True)
    for step, scale in ((9, 0.0), (100, 1.0), (20, 2.0)):
        key = "_components.embed.U"
        torch.save(state | {key: scale * state[key]}, tmp_path / f"model_{step}.pth")
    (tmp_path / "final_config.yaml").write_text("ci_fn_type: mlp\n")
    found = spd.read(tmp_path, pickles=True)
    assert found.path == tmp_path / "model_100.pth"
    (embed,) = (part for part in found.parts if part.layer.name == "embed")
    assert torch.equal(embed.u, state["_components.embed.U"])


Edit = Callable[[dict[str, Any]], object]
BROKEN: list[tuple[str, Edit, str]] = [
    ("", lambda s: s.pop("_components.embed.U"), r"has no tensor '_components.embed.U'"),
    (
        "",
        lambda s: s.update({"_components.embed.U": torch.zeros(4, 4)}),
        r"'_components.embed.U' has shape \(4, 4\), and .* needs \(3, 4\)",
    ),
    (
        "",
        lambda s: s.update({"target_model.embed.weight": torch.zeros(5, 5)}),
        r"'target_model.embed.weight' has shape \(5, 5\), and .* needs \(4, 7\)",
    ),
    ("", lambda s: s["_components.embed.V"].fill_(torch.nan), "holds NaN"),
    (
        "",
        lambda s: s.pop("_ci_fns.embed.layers.0.b"),
        r"has no tensor '_ci_fns.embed.layers.0.b'",
    ),
    (
        "",
        lambda s: s.update({"_ci_fns.embed.layers.4.W": torch.zeros(3, 5, 1)}),
        r"networks of one hidden layer can be read",
    ),
    ("", lambda s: s.clear(), r"has no tensor _components.<layer>.V"),
    ("sigmoid_type: normal", lambda _: None, r"sigmoid_type 'normal' makes importances"),
    ("ci_fn_type: transformer", lambda _: None, r"ci_fn_type 'transformer' is none of mlp"),
    ("ci_fn_type: shared_mlp", lambda _: None, r"'_ci_fns.*layers.0.W' has shape \(3, 1, 5\)"),
]


@pytest.mark.parametrize(("settings", "edit", "said"), BROKEN)
def test_a_damaged_run_is_refused(settings: str, edit: Edit, said: str, tmp_path: Path) -> None:
    state = torch.load(GOLDEN / "spd_mlp" / "model_10.pth", weights_only=True)
    edit(state)
    torch.save(state, tmp_path / "model_10.pth")
    (tmp_path / "final_config.yaml").write_text(settings + "\n")
    with pytest.raises(ConfigError, match=said):
        spd.read(tmp_path, pickles=True)


def test_what_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    (tmp_path / "final_config.yaml").write_text("ci_fn_type: mlp\n")
    torch.save({"_components.a.V": Path("/etc/passwd")}, tmp_path / "model_1.pth")
    with pytest.raises(ConfigError, match="not a torch archive of plain tensors"):
        spd.read(tmp_path, pickles=True)
    with pytest.raises(ConfigError, match="convert it offline with `mad convert`"):
        spd.read(tmp_path, pickles=False)


def test_a_directory_without_a_checkpoint_or_its_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no checkpoint such as model_10000.pth"):
        spd.read(tmp_path, pickles=True)
    torch.save({}, tmp_path / "model_1.pth")
    with pytest.raises(ConfigError, match=r"final_config.yaml is missing"):
        spd.read(tmp_path, pickles=True)
