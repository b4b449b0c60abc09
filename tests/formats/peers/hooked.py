"""Run one model as TransformerLens and as Hugging Face have it, and keep what both see.

python -m tests.formats.peers.hooked OUT
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

from tests.formats.peers.activations import LENGTH, captured, excerpts, trained

HOOKS = {
    "hook_resid_post": "",
    "hook_resid_pre": "<",
    "hook_resid_mid": ".ln_2<",
    "hook_mlp_out": ".mlp",
    "hook_attn_out": ".attn",
    "attn.hook_z": ".attn.c_proj<",
    "mlp.hook_pre": ".mlp.c_fc",
    "mlp.hook_post": ".mlp.c_proj<",
}


def main(out: Path) -> None:
    """Write what each hook and each end of a module sees, of both blocks."""
    torch.manual_seed(0)
    model, tokens = trained(8, steps=20), excerpts(4)
    config = HookedTransformerConfig(
        n_layers=2,
        d_model=8,
        n_ctx=LENGTH,
        d_head=4,
        n_heads=2,
        d_mlp=32,
        d_vocab=128,
        act_fn="gelu_new",
        normalization_type="LN",
        device="cpu",
    )
    lens = HookedTransformer(config)
    lens.load_state_dict(convert_gpt2_weights(model, config), strict=False)
    sites = tuple(f"transformer.h.{layer}{end}" for layer in (0, 1) for end in HOOKS.values())
    found = {f"hugging {site}": value for site, value in captured(model, tokens, sites).items()}
    _, cache = lens.run_with_cache(tokens)
    for layer in (0, 1):
        for hook in HOOKS:
            name = f"blocks.{layer}.{hook}"
            found[f"lens {name}"] = cache[name].reshape(*tokens.shape, -1)
    save_file({name: value.clone().contiguous() for name, value in found.items()}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
