"""Any change of a query or a key, with an estimate that takes it through the exact softmax."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mad.effects.attention.base import Attention
from mad.effects.attention.mix import Mix
from mad.effects.base import Changes
from mad.types import Activations, Site

_NUMBERS: Final = 2**23
"""Numbers of attention patterns that are in memory at once, as a rule."""


def attended(changes: Changes, attentions: Sequence[Attention], seen: Activations) -> Changes:
    """Return the changes, estimated through the softmax where their site is a query or a key.

    Raises:
        ConfigError: an attention as described is not what the model computes.
    """
    of_site = [attention for attention in attentions if changes.site in attention.sites]
    for attention in of_site if changes.site == changes.slope_site else ():
        mix = attention.mix(seen)
        some = changes.added(torch.arange(min(1, len(changes.rows))))
        if attention.moved(changes.site, mix, some):
            attention.check(seen)
            return _Attended(changes, attention, mix)
    return changes


@final
@dataclass(frozen=True)
class _Attended:
    """Changes at a site that bears queries or keys."""

    changes: Changes
    attention: Attention
    mix: Mix

    @property
    def name(self) -> str:
        return self.changes.name

    @property
    def rows(self) -> Int64[Tensor, " pair"]:
        return self.changes.rows

    @property
    def nodes(self) -> Int64[Tensor, " pair"]:
        return self.changes.nodes

    @property
    def site(self) -> Site:
        return self.changes.site

    @property
    def slope_site(self) -> Site:
        return self.attention.slope_site

    def added(self, pairs: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen ..."]:
        return self.changes.added(pairs)

    def estimates(
        self, gradients: Activations, *, through_softmax: bool
    ) -> Float64[Tensor, " pair"]:
        if not through_softmax:
            return self.changes.estimates(gradients, through_softmax=False)
        of_mixed = self.attention.of_mixed(gradients)
        before = self.mix.mixed()
        pattern = self.mix.likeness[0].numel() + self.mix.query[0].numel()
        rows = self.rows
        pieces = torch.arange(len(rows)).split(max(1, _NUMBERS // pattern))
        found = [torch.zeros(0, dtype=torch.float64)]
        for piece in pieces:
            moved = self._after(piece, rows) - before[rows[piece]]
            found.append((moved * of_mixed[rows[piece]]).double().flatten(1).sum(dim=1))
        return torch.cat(found)

    def _after(
        self, pairs: Int64[Tensor, " chosen"], rows: Int64[Tensor, " pair"]
    ) -> Float[Tensor, "chosen head position carried"]:
        mix = self.mix.take(rows[pairs])
        for role, change in self.attention.moved(self.site, mix, self.added(pairs)).items():
            mix = mix.changed(role, change)
        return mix.mixed()
