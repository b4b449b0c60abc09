"""What an attribution-based decomposition is made of: every component's matrix in one layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from jaxtyping import Float, Shaped
from torch import Tensor

from mad.components.parameters.layers import MatrixLayer


@final
@dataclass(frozen=True)
class Factors:
    """One layer's matrix as a sum over components of ``a[c] @ b[c]``, and a rest if any."""

    layer: MatrixLayer
    a: Float[Tensor, "component source rank"]
    b: Float[Tensor, "component rank target"]

    def __post_init__(self) -> None:
        assert self.a.shape[1] == self.layer.source
        assert self.b.shape == (self.width, self.a.shape[2], self.layer.target)

    @property
    def width(self) -> int:
        """The number of components."""
        return self.a.shape[0]

    @property
    def matrices(self) -> Float[Tensor, "component source target"]:
        """Every component's matrix."""
        return self.a @ self.b

    def inner(self, given: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "*place component rank"]:
        """Return what each component's ``a`` makes of each row of a layer's input."""
        flat = self.a.transpose(0, 1).flatten(1)
        inner: Tensor = self.layer.inner(given, flat).unflatten(-1, (self.width, -1))
        return inner

    def written(
        self,
        given: Shaped[Tensor, "batch ..."],
        used: Float[Tensor, "batch component"],
    ) -> Float[Tensor, "batch ..."]:
        """Return what used components write together, as the layer shapes it, without a bias."""
        inner = self.inner(given)
        mask = used.reshape(len(used), *[1] * (inner.ndim - 3), self.width, 1)
        return self.layer.shaped((inner * mask).flatten(-2) @ self.b.flatten(0, 1), given)

    def each(self, given: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "component batch ..."]:
        """Return what each component writes by itself, as the layer shapes it."""
        # A matrix of products a batch, with the components in front.
        rows = self.inner(given).movedim(-2, 0)
        before = self.b.reshape(self.width, *[1] * (rows.ndim - 3), *self.b.shape[1:])
        return self._shaped(rows @ before, given)

    def missed(self, matrix: Float[Tensor, "source target"]) -> float:
        """Return the share of a matrix's squares that all components do not add up to."""
        whole = self.a.transpose(0, 1).flatten(1) @ self.b.flatten(0, 1)
        return float((matrix - whole).square().sum() / matrix.square().sum().clamp_min(1e-30))

    def some(self, start: int, stop: int) -> "Factors":
        """Return those of some components, or of as many as there are."""
        return Factors(self.layer, self.a[start:stop], self.b[start:stop])

    @property
    def detached(self) -> "Factors":
        """The same numbers, without gradients."""
        return Factors(self.layer, self.a.detach(), self.b.detach())

    def _shaped(
        self, written: Float[Tensor, "component *place target"], given: Shaped[Tensor, "..."]
    ) -> Float[Tensor, "component ..."]:
        if self.layer.window is None:
            return written
        repeated = given.repeat(self.width, *[1] * (given.ndim - 1))
        together = self.layer.shaped(written.flatten(0, 1), repeated)
        return together.reshape(self.width, -1, *together.shape[1:])


Components: TypeAlias = Mapping[str, Factors]
"""All decomposed layers of a model, by name; each has the same number of components."""
