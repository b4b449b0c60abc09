"""One layer beside its pieces: what is needed to read them out, and to know the layer again."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mad import tensors
from mad.components.parameters.layers import bias_of, matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.errors import ConfigError
from mad.types import Site


@final
@dataclass(frozen=True)
class DecomposedLayer:
    """One layer's subcomponents, and what else its output is made of.

    ``matrix_digest`` tells the matrix that they are pieces of, of which they make up all but
    ``missed``, a share of its squares.
    """

    parts: Subcomponents
    bias: Float[Tensor, " target"]
    matrix_digest: str
    missed: float

    @staticmethod
    def of(
        parts: Subcomponents,
        *,
        matrix: Float[Tensor, "source target"],
        bias: Float[Tensor, " target"],
    ) -> "DecomposedLayer":
        """Put subcomponents beside the matrix that they are pieces of."""
        whole = matrix.detach().double()
        left = whole - parts.v.double() @ parts.u.double()
        tiny = torch.finfo(torch.float64).tiny
        missed = float(left.square().sum() / whole.square().sum().clamp_min(tiny))
        return DecomposedLayer(parts, bias.detach().float(), matrix_digest(matrix), missed)

    @property
    def name(self) -> Site:
        """The module, and the site whose activation its components are of."""
        return self.parts.layer.name

    @cached_property
    def lengths(self) -> Float[Tensor, " component"]:
        """The length of each row of ``u``."""
        return self.parts.u.square().sum(dim=1).sqrt()

    @cached_property
    def directions(self) -> Float[Tensor, "component target"]:
        """The rows of ``u`` at length one; zeros where there is nothing."""
        return functional.normalize(self.parts.u, dim=1)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The tensors, by name."""
        own = self.parts.importance
        networks = {f"importance.{f.name}": getattr(own, f.name) for f in fields(own)}  # type: ignore[arg-type]  # ImportanceFunction: a dataclass of tensors
        return {"v": self.parts.v, "u": self.parts.u, "bias": self.bias, **networks}


def matrix_digest(matrix: Float[Tensor, "source target"]) -> str:
    """Tell a matrix apart from others, by its numbers in single precision."""
    return tensors.digest({"matrix": matrix.float()})


def check_layer(layer: DecomposedLayer, model: nn.Module) -> None:
    """Refuse a model that has not this layer, of these sizes and weights; ConfigError says why."""
    wanted = layer.parts.layer
    found = matrix_layer(model, wanted.name)
    if found != wanted:
        raise ConfigError(
            f"layer {wanted.name!r} of the model is {found}, and the decomposition is of {wanted}: "
            "load the model that was decomposed, or train the decomposition again"
        )
    same_matrix = matrix_digest(matrix_of(model, found)) == layer.matrix_digest
    if not (same_matrix and torch.equal(bias_of(model, found).float(), layer.bias)):
        raise ConfigError(
            f"layer {wanted.name!r} of the model has other weights than those that were "
            "decomposed: load the weights that were, or train the decomposition again with "
            "`mad train decomposition`"
        )
