"""What cannot be read or written is refused, naming the file, the piece and the remedy."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mad import tensors
from mad.components import formats
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.look import Look
from mad.errors import ConfigError
from tests.formats.cases import GOLDEN

Edit = Callable[[dict[str, Any]], object]


def dictionary(name: str, format_name: str = "saelens") -> Dictionary:
    return formats.read(GOLDEN / name, format_name, site="site", pickles=True)


def edited(source: Path, name: str, edit: Edit) -> None:
    """Change one file of a checkpoint: its tensors, or its settings."""
    path = source / name
    if name.endswith(".json"):
        settings = json.loads(path.read_text())
        edit(settings)
        path.write_text(json.dumps(settings))
    elif name.endswith(".safetensors"):
        weights: dict[str, Tensor] = tensors.read_tensors(path)
        edit(weights)
        path.write_bytes(tensors.serialise(weights))
    else:
        state = torch.load(path, weights_only=True)
        edit(state)
        torch.save(state, path)


BROKEN: list[tuple[str, str, str, Edit, str]] = [
    (
        "saelens_standard",
        "saelens",
        "sae_weights.safetensors",
        lambda weights: weights.pop("b_enc"),
        r"sae_weights.safetensors has no tensor 'b_enc', only W_dec, W_enc, b_dec",
    ),
    (
        "saelens_standard",
        "saelens",
        "sae_weights.safetensors",
        lambda weights: weights.update(W_dec=weights["W_dec"].T.contiguous()),
        r"tensor 'W_dec' has shape \(8, 16\), and by the other .* needs \(16, 8\)",
    ),
    (
        "saelens_standard",
        "saelens",
        "sae_weights.safetensors",
        lambda weights: weights["b_enc"].fill_(torch.nan),
        r"tensor 'b_enc' holds NaN",
    ),
    (
        "saelens_standard",
        "saelens",
        "cfg.json",
        lambda settings: settings.update(d_sae=32),
        r"cfg.json: 'd_sae' is 32, and by W_enc .* it is 16",
    ),
    (
        "saelens_standard",
        "saelens",
        "cfg.json",
        lambda settings: settings.update(architecture="temporal"),
        r"architecture 'temporal' is none of standard, topk",
    ),
    (
        "saelens_standard",
        "saelens",
        "cfg.json",
        lambda settings: settings.update(normalize_activations="covariance_whitening"),
        r"'covariance_whitening' is none of none, .*; fold it in with SAELens",
    ),
    (
        "saelens_standard",
        "saelens",
        "cfg.json",
        lambda settings: settings.update(normalize_activations="expected_average_only_in"),
        r"no activation_scaler.json beside it",
    ),
    (
        "saelens_topk",
        "saelens",
        "cfg.json",
        lambda settings: settings.update(k=17),
        r"k is 17, of 16 latents",
    ),
    (
        "saelens_topk",
        "saelens",
        "cfg.json",
        lambda settings: settings.update(k="three"),
        r"'k' is 'three', and must be a int",
    ),
    (
        "sparsify_latents/h.0",
        "sparsify",
        "cfg.json",
        lambda settings: settings.update(activation="groupmax"),
        r"a groupmax dictionary .* not supported; train it with activation topk",
    ),
    (
        "sparsify_latents/h.0",
        "sparsify",
        "cfg.json",
        lambda settings: settings.update(d_in=9),
        r"'d_in' is 9, and by the encoder of .* it is 8",
    ),
    (
        "dictionary_learning_AutoEncoderTopK",
        "dictionary_learning",
        "config.json",
        lambda settings: settings["trainer"].update(dict_class="Other"),
        r"dict_class 'Other' is none of AutoEncoder,",
    ),
    (
        "dictionary_learning_AutoEncoderTopK",
        "dictionary_learning",
        "ae.pt",
        lambda state: state["b_dec"].fill_(torch.inf),
        r"tensor 'b_dec' holds NaN or infinite",
    ),
    (
        "openai_topk",
        "openai",
        "ae.pt",
        lambda state: state["activation_state_dict"].update(postact_fn="Identity"),
        r"activation 'TopK' with k 3 and 'Identity' after it is not supported",
    ),
]


@pytest.mark.parametrize(("name", "format_name", "file", "edit", "message"), BROKEN)
def test_a_broken_checkpoint_is_refused(
    name: str, format_name: str, file: str, edit: Edit, message: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / name, source)
    edited(source, file, edit)
    path = source / "ae.pt" if format_name == "openai" else source
    with pytest.raises(ConfigError, match=message):
        formats.read(path, format_name, site="site", pickles=True)


def test_the_old_scaling_factor_passes_as_ones_and_not_otherwise(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "saelens_standard", source)
    file = "sae_weights.safetensors"
    edited(source, file, lambda weights: weights.update(scaling_factor=torch.ones(16)))
    assert formats.read(source, "saelens").width == 16
    edited(source, file, lambda weights: weights.update(scaling_factor=torch.full((16,), 2.0)))
    with pytest.raises(ConfigError, match="a scaling_factor other than one"):
        formats.read(source, "saelens")


def test_pickles_are_opened_only_where_that_was_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"ae.pt is a pickle, .* `mad convert`"):
        formats.read(GOLDEN / "dictionary_learning_AutoEncoder", "dictionary_learning")


@dataclass
class _Trap:
    """Makes a directory when it is unpickled."""

    mark: Path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_pickle_that_asks_for_code_is_refused_and_runs_none(
    is_archive: bool, tmp_path: Path
) -> None:
    path, trap = tmp_path / "ae.pt", _Trap(tmp_path / "ran")
    if is_archive:
        torch.save({"pre_bias": trap}, path)
    else:
        path.write_bytes(pickle.dumps({"pre_bias": trap}))
    with pytest.raises(ConfigError, match=r"ae.pt is not a torch archive of plain tensors"):
        formats.read(path, "openai", site="site", pickles=True)
    assert not trap.mark.exists()


@pytest.mark.parametrize(
    ("name", "format_name", "message"),
    [
        ("openai_topk", "openai", r"does not say at which site .* name it with --site"),
        ("nowhere", "saelens", r"cannot read .*nowhere.*cfg.json"),
        ("saelens_topk", "other", r"format 'other' is none of mad, saelens"),
    ],
)
def test_what_cannot_be_found_is_named(name: str, format_name: str, message: str) -> None:
    path = GOLDEN / name / "ae.pt" if format_name == "openai" else GOLDEN / name
    with pytest.raises(ConfigError, match=message):
        formats.read(path, format_name, pickles=True)


def test_heads_of_a_model_not_known_need_a_site(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "saelens_hook_z", source)
    edited(source, "cfg.json", lambda settings: settings["metadata"].update(model_name="mine"))
    with pytest.raises(ConfigError, match="takes all heads joined end to end; name a module"):
        formats.read(source, "saelens")


UNWRITABLE = [
    ("saelens_layer_norm", "sparsify", "sparsify cannot say that each vector is normalised"),
    ("saelens_layer_norm", "dictionary_learning", "dictionary_learning cannot say that each"),
    ("saelens_topk", "openai", "openai knows TopK of layer-normed vectors and ReLU of others"),
    ("saelens_gated", "sparsify", "sparsify knows TopK dictionaries, and this one is gated"),
    ("saelens_transcoder", "dictionary_learning", "knows no transcoders"),
    ("saelens_transcoder", "openai", "knows no transcoders"),
]


@pytest.mark.parametrize(("name", "layout", "message"), UNWRITABLE)
def test_a_layout_that_cannot_hold_a_dictionary_says_what_it_lacks(
    name: str, layout: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        formats.write(dictionary(name), tmp_path / "out", layout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["saelens", "dictionary_learning", "sparsify", "openai"])
def test_a_dictionary_of_several_sites_stays_with_us(layout: str, tmp_path: Path) -> None:
    one = dictionary("saelens_topk")
    half = one.decoder.shape[1] // 2
    both = Look(("a", "b"), ("a", "b"), "last")
    crosscoder = replace(one, look=both, widths=(half, half))
    with pytest.raises(ConfigError, match=r"of several sites \(a, b\)"):
        formats.write(crosscoder, tmp_path / "out", layout)


def test_a_transcoder_of_topk_latents_is_for_sparsify(tmp_path: Path) -> None:
    one = dictionary("saelens_topk")
    transcoder = replace(
        one, look=Look(("a",), ("b",), "last"), target=Frame(one.source.centre + 1, torch.ones(()))
    )
    with pytest.raises(ConfigError, match="SAELens has no topk transcoder; write it as sparsify"):
        formats.write(transcoder, tmp_path / "out", "saelens")
    formats.write(transcoder, tmp_path / "h.0", "sparsify")
