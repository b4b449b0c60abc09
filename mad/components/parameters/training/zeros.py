"""Inputs of all zeros, of which one stands for all where masks cannot change what they give.

Where every decomposed layer is given zeros, its inner activations are zero and so is whatever masks
make of them: all such inputs have one loss. Sparse toys consist of them for the most part.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mad.components.parameters.training.passes import Passes

WORTH_IT = 0.95
"""The share of a batch that is left, above which nothing is saved."""


@final
@dataclass(frozen=True)
class Zeros:
    """Batches are brought to one ``height``, so that whatever is compiled for it fits all."""

    height: int

    @staticmethod
    def fitting(
        passes: Passes, example: Shaped[Tensor, "batch ..."], batch_size: int
    ) -> "Zeros | None":
        """Return the height that all but one batch in 30,000 need; None if nothing is saved."""
        if not example.is_floating_point():
            return None
        nothing = passes.look(torch.zeros_like(example[:1]))
        if any(bool(one.given.any()) for one in nothing.seen.values()):
            return None
        share = float(_is_kept(example).float().mean())
        # Four deviations of a batch, whose share is known as badly.
        most = share * batch_size + 6 * math.sqrt(batch_size * share * (1 - share)) + 1
        height = 16 * math.ceil(most / 16)
        return Zeros(height) if height < WORTH_IT * batch_size else None

    def collapsed(
        self, batch: Shaped[Tensor, "batch ..."]
    ) -> tuple[Shaped[Tensor, "height ..."], Float[Tensor, " height"]]:
        """Return inputs and how often each occurs; the batch as it is, where it has too many."""
        kept = _is_kept(batch).nonzero().squeeze(1)
        count = len(kept)
        if count >= self.height:
            return batch, torch.ones(len(batch))
        rows = batch.new_zeros((self.height, *batch.shape[1:]))
        weight = torch.zeros(self.height)
        rows[:count] = batch[kept]
        weight[:count] = 1.0
        weight[count] = len(batch) - count
        return rows, weight


def _is_kept(batch: Tensor) -> Tensor:
    return batch.reshape(len(batch), -1).ne(0).any(dim=1)
