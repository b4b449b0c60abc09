"""Bilinear: latents are squares of projections, as a bilinear layer's own weights have them."""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.kernels import affine
from mad.components.dictionaries.latents import Latents


@final
@dataclass(frozen=True)
class BilinearEncoder:
    """The ``k`` largest of ``strengths * (x @ vectors + shifts) ** 2`` (Pearce et al. 2024).

    ``vectors`` are eigenvectors, ``strengths`` the sizes of their eigenvalues, and ``shifts`` what
    the layer's biases add. It is not trained: ``bilinear.py`` makes it of a layer's weights.
    """

    kind: ClassVar[str] = "bilinear"

    vectors: Float[Tensor, "source component"]
    shifts: Float[Tensor, " component"]
    strengths: Float[Tensor, " component"]
    k: int

    @property
    def width(self) -> int:
        """The number of eigenvectors, over all output directions."""
        return self.strengths.numel()

    def encode(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Return the largest squares of each vector."""
        squares = self.strengths * affine(source, self.vectors, self.shifts).square()
        values, components = squares.topk(min(self.k, self.width), dim=1)
        components, ascending = components.sort(dim=1)
        return Latents.chosen(values.gather(1, ascending), components)
