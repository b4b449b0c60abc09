"""What a dictionary reads and what it explains: from activations to pairs of vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.pooling import Pooling, pool
from mad.types import Activations, Site, View, view_of


@final
@dataclass(frozen=True)
class Examples:
    """Vectors to encode, and for each the vector to explain: itself, but for a transcoder."""

    source: Float[Tensor, "batch source"]
    target: Float[Tensor, "batch target"]

    @staticmethod
    def own(vectors: Float[Tensor, "batch coordinate"]) -> "Examples":
        """Let vectors explain themselves."""
        return Examples(vectors, vectors)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.source)

    @property
    def is_own(self) -> bool:
        """Whether vectors explain themselves."""
        return self.target is self.source

    def take(self, rows: Int64[Tensor, " chosen"]) -> "Examples":
        """Return some pairs, in this order."""
        source = self.source[rows]
        return Examples(source, source if self.is_own else self.target[rows])

    def first(self, count: int) -> "Examples":
        """Return the first pairs, without a copy."""
        source = self.source[:count]
        return Examples(source, source if self.is_own else self.target[:count])


@final
@dataclass(frozen=True)
class Look:
    """Sites read and sites explained, through one pooling; several are joined end to end.

    An autoencoder reads the site that it explains, a crosscoder all of several, and a transcoder
    reads another. ``suffix`` names the view where it is not the default one of its site.
    """

    reads: tuple[Site, ...]
    writes: tuple[Site, ...]
    pooling: Pooling
    suffix: str = ""

    @staticmethod
    def at(site: Site, pooling: Pooling, suffix: str = "") -> "Look":
        """Look at one site, to explain it by itself."""
        return Look((site,), (site,), pooling, suffix)

    @property
    def is_own(self) -> bool:
        """Whether what is read is what is explained."""
        return self.reads == self.writes

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site needed, those explained first."""
        return tuple(dict.fromkeys(self.writes + self.reads))

    @property
    def view(self) -> View:
        """The view of the first site explained, which bears the components."""
        return view_of(self.writes[0], self.suffix)

    @property
    def views(self) -> Mapping[View, Site]:
        """A view of each site explained."""
        return {view_of(site, self.suffix): site for site in self.writes}

    def examples(self, activations: Activations) -> Examples:
        """Pool and join what is read, and what is explained."""
        source = self._joined(activations, self.reads)
        return Examples(source, source if self.is_own else self._joined(activations, self.writes))

    def widths(self, activations: Activations) -> tuple[int, ...]:
        """Return how many coordinates each site explained comes to."""
        return tuple(pool(activations[site], self.pooling).shape[1] for site in self.writes)

    def _joined(
        self, activations: Activations, sites: Sequence[Site]
    ) -> Float[Tensor, "batch coordinate"]:
        # Models of half or double precision are read in single precision, as weights are.
        pooled = [pool(activations[site], self.pooling).float() for site in sites]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)
