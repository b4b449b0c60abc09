"""Sparse latents: which ones each vector activates and how strongly, and what they add up to."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mad.components.dictionaries import sparse


@final
@dataclass(frozen=True)
class Latents:
    """The active latents of a batch, sparse by rows.

    Those of vector ``i`` are the entries ``offsets[i]:offsets[i + 1]``, components ascending, and
    no value is zero. Values are those of the encoder, of normalised vectors.
    """

    offsets: Int64[Tensor, " offsets"]
    components: Int64[Tensor, " entry"]
    values: Float[Tensor, " entry"]

    @staticmethod
    def none(count: int) -> "Latents":
        """Let ``count`` vectors activate nothing."""
        nothing = torch.zeros(count + 1, dtype=torch.int64)
        return Latents(nothing, nothing[:0], torch.zeros(0))

    @staticmethod
    def chosen(
        values: Float[Tensor, "batch slot"], components: Int64[Tensor, "batch slot"]
    ) -> "Latents":
        """Keep the non-zero ones among as many candidates for each vector, ascending in a row."""
        if values.numel() and values.detach().numpy().all():
            offsets = sparse.even_offsets(*values.shape)
            return Latents(offsets, components.flatten(), values.flatten())
        active = values != 0
        return Latents(sparse.offsets_of(active.sum(dim=1)), components[active], values[active])

    @staticmethod
    def where(
        active: Bool[Tensor, "batch component"], values: Float[Tensor, "batch component"]
    ) -> "Latents":
        """Keep the entries of a dense table that ``active`` marks and that are not zero."""
        rows, components = (active & (values != 0)).nonzero(as_tuple=True)
        counts = rows.bincount(minlength=len(values))
        return Latents(sparse.offsets_of(counts), components, values[rows, components])

    def __len__(self) -> int:
        """Return the number of vectors."""
        return self.offsets.numel() - 1

    def scaled(self, factors: Float[Tensor, "batch 1"]) -> "Latents":
        """Multiply the latents of each vector by its own factor; what becomes zero is dropped."""
        counts = self.offsets.diff()
        values = self.values * torch.repeat_interleave(factors.squeeze(1), counts)
        active = values != 0
        rows = torch.repeat_interleave(torch.arange(len(self)), counts)[active]
        offsets = sparse.offsets_of(rows.bincount(minlength=len(self)))
        return Latents(offsets, self.components[active], values[active])

    def explained(
        self, decoder: Float[Tensor, "component coordinate"]
    ) -> Float[Tensor, "batch coordinate"]:
        """Return what the latents of each vector add up to."""
        return sparse.added(self.values, self.components, self.offsets, decoder)

    def kept(self, chosen: Bool[Tensor, " entry"]) -> "Latents":
        """Return the chosen entries only."""
        before = torch.cat([self.offsets.new_zeros(1), chosen.cumsum(dim=0)])
        return Latents(before[self.offsets], self.components[chosen], self.values[chosen])

    def dense(self, width: int) -> Float[Tensor, "batch component"]:
        """Return the table of all latents; for tests and for matrices small enough."""
        table = self.values.new_zeros(len(self), width)
        rows = torch.repeat_interleave(torch.arange(len(self)), self.offsets.diff())
        return table.index_put((rows, self.components), self.values)
