"""Real activations: of a small GPT-2 that was trained to continue a licence, letter by letter."""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

TEXT = Path(__file__).parents[3] / "LICENSE"
RESIDUAL, BLOCK_IN = "transformer.h.0", "transformer.h.1<"
MLP_IN, MLP_OUT = "transformer.h.1.mlp<", "transformer.h.1.mlp"
MLP_POST, HEADS_OUT = "transformer.h.1.mlp.c_proj<", "transformer.h.1.attn.c_proj<"
SITES = (RESIDUAL, BLOCK_IN, MLP_IN, MLP_OUT, MLP_POST, HEADS_OUT)
LENGTH = 32


def trained(width: int, *, steps: int) -> GPT2LMHeadModel:
    """Return the model, better than at the start."""
    config = GPT2Config(vocab_size=128, n_positions=LENGTH, n_embd=width, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        tokens = excerpts(16)
        loss = model(input_ids=tokens, labels=tokens).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def excerpts(count: int) -> Tensor:
    """Return letters of the licence, from anywhere in it."""
    letters = torch.frombuffer(bytearray(TEXT.read_bytes()), dtype=torch.uint8).long()
    starts = torch.randint(len(letters) - LENGTH, (count,))
    return torch.stack([letters[start : start + LENGTH] for start in starts])


def captured(model: nn.Module, tokens: Tensor, sites: tuple[str, ...] = SITES) -> dict[str, Tensor]:
    """Return what goes into or comes out of modules, at every position."""
    found: dict[str, Tensor] = {}
    removed = []
    for site in sites:
        module = model.get_submodule(site.removesuffix("<"))

        def hook(
            _module: nn.Module, inputs: tuple[Tensor, ...], output: object, site: str = site
        ) -> None:
            value = inputs if site.endswith("<") else output
            found[site] = value[0] if isinstance(value, tuple) else value  # type: ignore[assignment]

        removed.append(module.register_forward_hook(hook))
    with torch.no_grad():
        model(input_ids=tokens)
    for one in removed:
        one.remove()
    return found


def vectors(width: int, *, count: int) -> dict[str, Tensor]:
    """Return as many vectors of each site, of positions drawn alike at all of them."""
    found = captured(trained(width, steps=150), excerpts(64))
    rows = torch.randperm(64 * LENGTH)[:count]
    return {site: value.flatten(0, 1)[rows].clone() for site, value in found.items()}
