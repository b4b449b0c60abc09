"""Older versions of the layouts: the same weights by other names give the same latents."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mad import tensors
from mad.components import formats
from mad.errors import ConfigError
from tests.formats.cases import GOLDEN, NEAR, Case, cases, computed, distance


def copied(name: str, root: Path) -> tuple[Case, Path]:
    """Return a case, and a copy of its checkpoint to change."""
    (case,) = (one for one in cases(GOLDEN) if one.name == name)
    path = root / "h.0"
    shutil.copytree(GOLDEN / name, path)
    return case, path


def settings_changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))


def test_sparsify_once_named_its_tensors_otherwise(tmp_path: Path) -> None:
    case, path = copied("sparsify_latents/h.0", tmp_path)
    file = path / "sae.safetensors"
    new = tensors.read_tensors(file)
    old: dict[str, Tensor] = {
        "W_enc": new["encoder.weight"].T,
        "b_enc": new["encoder.bias"],
        "decoder.weight": new["W_dec"].T,
        "decoder.bias": new["b_dec"],
    }
    file.write_bytes(tensors.serialise(old))
    read = formats.read(path, "sparsify", site=case.site)
    assert distance(computed(read, case.vectors), case.expected) < NEAR


def test_sparsify_says_where_it_belongs_by_its_directory_alone(tmp_path: Path) -> None:
    _, path = copied("sparsify_latents/h.0", tmp_path)
    assert formats.read(path, "sparsify").look.writes == ("h.0",)


def test_a_transcoder_of_sparsify_explains_a_module_by_what_goes_into_it() -> None:
    path = GOLDEN / "sparsify_transcoder" / "h.1.mlp"
    look = formats.read(path, "sparsify", site="block.mlp").look
    assert (look.reads, look.writes) == (("block.mlp<",), ("block.mlp",))


def test_a_checkpoint_to_resume_from_holds_the_dictionary_too(tmp_path: Path) -> None:
    case, path = copied("dictionary_learning_AutoEncoderTopK", tmp_path)
    state = torch.load(path / "ae.pt", weights_only=True)
    file = path / "checkpoints" / "ae_100.pt"
    file.parent.mkdir()
    torch.save({"step": 100, "ae": state, "optimizer": {}}, file)
    (path / "ae.pt").unlink()
    read = formats.read(file, "dictionary_learning", pickles=True)
    assert distance(computed(read, case.vectors), case.expected) < NEAR


def test_a_submodule_not_known_needs_a_site(tmp_path: Path) -> None:
    _, path = copied("dictionary_learning_AutoEncoderTopK", tmp_path)
    settings_changed(path / "config.json", lambda s: s["trainer"].update(submodule_name="rotary"))
    with pytest.raises(ConfigError, match="submodule 'rotary' is not known; name the site"):
        formats.read(path, "dictionary_learning", pickles=True)
    read = formats.read(path, "dictionary_learning", site="fc1", pickles=True)
    assert read.look.writes == ("fc1",)


def old_settings(**changes: object) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        settings.pop("metadata")
        settings.pop("reshape_activations")
        settings.update({"hook_point": "blocks.0.hook_resid_post", "model_name": "gpt2"}, **changes)

    return change


def test_early_saelens_kept_no_metadata(tmp_path: Path) -> None:
    case, path = copied("saelens_standard", tmp_path)
    settings_changed(path / "cfg.json", old_settings(activation_fn_str="relu"))
    read = formats.read(path, "saelens")
    assert read.look.writes == (case.site,)
    assert distance(computed(read, case.vectors), case.expected) < NEAR


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_fn_str": "tanh-relu"}, "activation 'tanh-relu' is not relu or topk"),
        ({"normalize_activations": True}, "there is no activation_scaler.json beside it"),
        (
            {"hook_point": "blocks.1.attn.hook_z", "model_name": "mine"},
            "takes all heads joined end to end; name a module",
        ),
        ({"hook_head_index": 3}, r"cfg.json: .* takes head 3 alone; name a module"),
    ],
)
def test_what_early_saelens_could_do_besides_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    _, path = copied("saelens_standard", tmp_path)
    settings_changed(path / "cfg.json", old_settings(**changes))
    with pytest.raises(ConfigError, match=message):
        formats.read(path, "saelens")
