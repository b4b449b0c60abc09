"""State dicts of goodfire-ai/spd of all ages, brought to the keys of its main branch.

Those of main are ``target_model.<path>.weight``, ``_components.<name>.V`` and ``.U``, and
``_ci_fns.<name>.layers.<n>.W`` and ``.b``, a name being a path with dashes for dots.
"""

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

_RENAMED: Final = (
    # Runs of 2025 between the paper's tag and main.
    (r"patched_model\.(.*)", r"target_model.\1"),
    (r"_?gates\.(.*)", r"_ci_fns.\1"),
    (r"(target_model\..*)\.original\.(weight|bias)", r"\1.\2"),
    # The paper's tag, v1.
    (r"model\.(.*)", r"target_model.\1"),
    (r"components\.(.*)\.A", r"_components.\1.V"),
    (r"components\.(.*)\.B", r"_components.\1.U"),
    (r"components\.(.*)\.bias", r"_components.\1.bias"),
)
_INSIDE = re.compile(r"target_model\.(.*)\.components\.(U|V)")
_GATE = re.compile(r"_ci_fns\.([^.]*)\.(mlp_in|weight)")


def as_on_main(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the keys that main would give them; main's own stay as they are."""
    renamed = {_renamed(key): tensor for key, tensor in found.items()}
    for key in list(renamed):
        if gate := _GATE.fullmatch(key):
            start = f"_ci_fns.{gate[1]}."
            own = {
                rest: renamed.pop(start + rest)
                for rest in _GATES[gate[2]]
                if start + rest in renamed
            }
            layers = _of_gate(own)
            renamed |= {start + rest: tensor for rest, tensor in layers.items()}
    return renamed


_GATES: Final = {
    "mlp_in": ("mlp_in", "in_bias", "mlp_out", "out_bias"),
    "weight": ("weight", "bias"),
}


def _renamed(key: str) -> str:
    for old, new in _RENAMED:
        key = re.sub(f"^{old}$", new, key)
    if inside := _INSIDE.fullmatch(key):
        return f"_components.{inside[1].replace('.', '-')}.{inside[2]}"
    return key


def _of_gate(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the layers of a gate of v1, as far as it is whole.

    A gate of a single weight is linear, and so is ``gelu(h) - gelu(-h) = h``.
    """
    if "weight" in own:
        weight = own["weight"].float()
        one = torch.ones_like(weight)
        own = {
            "mlp_in": torch.stack([one, -one], dim=-1),
            "in_bias": torch.zeros(*weight.shape, 2),
            "mlp_out": torch.stack([weight, -weight], dim=-1),
            **({"out_bias": own["bias"]} if "bias" in own else {}),
        }
    to = {"mlp_in": ("layers.0.W", 1), "in_bias": ("layers.0.b", None)}
    to |= {"mlp_out": ("layers.2.W", -1), "out_bias": ("layers.2.b", -1)}
    return {
        to[name][0]: tensor if (dim := to[name][1]) is None else tensor.unsqueeze(dim)
        for name, tensor in own.items()
    }
