"""Where a dictionary belongs: TransformerLens hook names to Hugging Face module paths and back.

A TransformerLens model has its hook points as modules, so a hook name is a site of such a model as
it stands; of a Hugging Face model, what goes into or comes out of a module is the same vector.
Hooks within layer norms have no such module, since TransformerLens folds their weights away.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from mad.types import Site

_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")


@final
@dataclass(frozen=True)
class Family:
    """Models of one implementation: ``names`` match theirs, ``blocks`` are the modules in line.

    ``ends`` has what a hook sees, as what goes into or comes out of a block or one of its parts.
    """

    names: str
    blocks: str
    ends: Mapping[str, str]


_RESIDUAL: Final = {"hook_resid_post": "", "hook_resid_pre": "<"}
_LLAMA: Final = _RESIDUAL | {
    "hook_mlp_out": ".mlp",
    "hook_attn_out": ".self_attn",
    "hook_resid_mid": ".post_attention_layernorm<",
    "attn.hook_z": ".self_attn.o_proj<",
    "mlp.hook_in": ".mlp<",
    "mlp.hook_pre": ".mlp.gate_proj",
    "mlp.hook_post": ".mlp.down_proj<",
}

_FAMILIES: Final = (
    Family(
        r"gpt-?2",
        "transformer.h",
        _RESIDUAL
        | {
            "hook_mlp_out": ".mlp",
            "hook_attn_out": ".attn",
            "hook_resid_mid": ".ln_2<",
            "attn.hook_z": ".attn.c_proj<",
            "mlp.hook_in": ".mlp<",
            "mlp.hook_pre": ".mlp.c_fc",
            "mlp.hook_post": ".mlp.c_proj<",
        },
    ),
    Family(
        r"pythia|gpt-neox",
        "gpt_neox.layers",
        _RESIDUAL
        | {
            "hook_mlp_out": ".mlp",
            "hook_attn_out": ".attention",
            "attn.hook_z": ".attention.dense<",
            "mlp.hook_in": ".mlp<",
            "mlp.hook_pre": ".mlp.dense_h_to_4h",
            "mlp.hook_post": ".mlp.dense_4h_to_h<",
        },
    ),
    # From the second generation on, a norm stands between each part and the residual stream.
    Family(
        r"gemma-[23]-",
        "model.layers",
        _LLAMA
        | {
            "hook_attn_out": ".post_attention_layernorm",
            "hook_mlp_out": ".post_feedforward_layernorm",
            "hook_resid_mid": ".pre_feedforward_layernorm<",
        },
    ),
    Family(r"llama|mistral|qwen|gemma", "model.layers", _LLAMA),
)


def module_of(hook: str, model: str) -> Site | None:
    """Return the site of a Hugging Face model that a hook sees; None where there is none known.

    ``model`` is its name, such as ``gpt2-small`` or ``google/gemma-2-2b``.
    """
    family, found = _family(model), _HOOK.fullmatch(hook)
    if family is None or found is None or found[2] not in family.ends:
        return None
    return f"{family.blocks}.{found[1]}{family.ends[found[2]]}"


def hook_of(site: Site, model: str = "") -> str | None:
    """Return the hook that sees what a site gives; None where the site says too little.

    Without the model's name, families that share a path must agree.
    """
    named = _family(model)
    families = [named] if named else _FAMILIES
    answers = {_hook(site, one) for one in families if site.startswith(one.blocks)}
    return answers.pop() if len(answers) == 1 else None


def whole_path(path: str, model: str) -> Site:
    """Return a module path of a bare base model as one of the model with its head."""
    family = _family(model)
    if family is None:
        return path
    root, _, blocks = family.blocks.partition(".")
    return f"{root}.{path}" if path.partition(".")[0] == blocks else path


def _family(model: str) -> Family | None:
    name = model.rpartition("/")[2].lower()
    return next((one for one in _FAMILIES if re.search(one.names, name)), None)


def _hook(site: Site, family: Family) -> str | None:
    found = re.fullmatch(re.escape(family.blocks) + r"\.(\d+)([.<].*)?", site)
    if found is None:
        return None
    names = {part: name for name, part in family.ends.items()}
    name = names.get(found[2] or "")
    return None if name is None else f"blocks.{found[1]}.{name}"
