"""What makes checkpoints: vectors to train on, sizes, and a short training for any module."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.formats.peers.activations import RESIDUAL


@dataclass(frozen=True)
class Case:
    """One checkpoint: its format, the site it explains and the one it reads."""

    name: str
    format: str
    site: str = RESIDUAL
    reads: str = ""


@dataclass
class Maker:
    """Makes checkpoints of one size, one library after the other."""

    root: Path
    vectors: dict[str, Tensor]
    latents: int
    k: int

    @property
    def width(self) -> int:
        """Coordinates of the residual stream."""
        return self.vectors[RESIDUAL].shape[1]

    def polished(self, module: nn.Module, reads: str = RESIDUAL, site: str = "") -> Any:  # noqa: ANN401  # any class
        """Shake every parameter, then train a little, so that none is what it began as."""
        x, y = self.vectors[reads], self.vectors[site or reads]
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                noise = torch.randn_like(parameter)
                is_threshold = "threshold" in name
                parameter.copy_(noise.abs() / 4 if is_threshold else parameter + 0.1 * noise)
        optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=3e-3)
        for _ in range(30):
            output = module(x)
            explained = output if isinstance(output, Tensor) else output[-1]
            explained = getattr(output, "sae_out", explained)
            optimiser.zero_grad()
            (explained - y).square().sum(dim=1).mean().backward()
            optimiser.step()
        return module.eval()
