"""What a plan names of a model: layers, which share a parameter, and what cannot be trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mad.components.parameters.layers import MatrixLayer, matrix_layer, matrix_of
from mad.components.parameters.training.plan import SpdPlan
from mad.errors import ConfigError

Turn: TypeAlias = Literal["as it is", "transposed"]


@final
@dataclass(frozen=True)
class Tie:
    """A layer whose subcomponents are those of another, whose matrix is the same, or transposed."""

    owner: str
    turn: Turn


@final
@dataclass(frozen=True)
class Matrices:
    """Layers to decompose with their matrices, and which of them are tied to another."""

    layers: tuple[MatrixLayer, ...]
    matrix: Mapping[str, Float[Tensor, "source target"]]
    ties: Mapping[str, Tie]

    @staticmethod
    def of(model: nn.Module, plan: SpdPlan) -> "Matrices":
        """Look up what a plan names.

        Raises:
            ConfigError: a layer is not there or cannot be decomposed, layers share a parameter and
                the plan does not say so (or says so and they do not), or without a delta component
                a layer has fewer subcomponents than its matrix has dimensions.
        """
        layers = tuple(matrix_layer(model, one.name) for one in plan.layers)
        matrix = {layer.name: matrix_of(model, layer) for layer in layers}
        ties = _ties(plan, matrix)
        _check_undeclared(matrix, ties)
        if not plan.delta:
            _check_widths(plan, matrix)
        return Matrices(layers, matrix, ties)


def _ties(plan: SpdPlan, matrix: Mapping[str, Tensor]) -> Mapping[str, Tie]:
    widths = {one.name: one.width for one in plan.layers}
    ties: dict[str, Tie] = {}
    for owner, tied in plan.ties:
        for name in (owner, tied):
            if name not in matrix:
                raise ConfigError(
                    f"ties names layer {name!r}, which is not decomposed; layers are "
                    f"{', '.join(matrix)}"
                )
        if owner in ties or tied in ties or tied in {one.owner for one in ties.values()}:
            raise ConfigError(
                f"ties has ({owner!r}, {tied!r}) beside a pair that shares {tied!r} or {owner!r}; "
                "let all layers of one parameter be tied to the first of them, each once"
            )
        turn = _turn(matrix[owner], matrix[tied])
        if turn is None:
            raise ConfigError(
                f"layers {owner!r} and {tied!r} are declared as tied, but their weights differ; "
                "remove the pair from ties"
            )
        if widths[owner] != widths[tied]:
            raise ConfigError(
                f"layers {owner!r} and {tied!r} are tied, but have {widths[owner]} and "
                f"{widths[tied]} subcomponents; give both the same number"
            )
        ties[tied] = Tie(owner, turn)
    return ties


def _turn(owner: Tensor, tied: Tensor) -> Turn | None:
    if owner.T.shape == tied.shape and torch.equal(owner.T, tied):
        return "transposed"
    if owner.shape == tied.shape and torch.equal(owner, tied):
        return "as it is"
    return None


def _check_undeclared(matrix: Mapping[str, Tensor], ties: Mapping[str, Tie]) -> None:
    group = {name: ties[name].owner if name in ties else name for name in matrix}
    for first, second in combinations(matrix, 2):
        # Weights that were loaded apart may still be of one parameter.
        if group[first] != group[second] and _turn(matrix[first], matrix[second]) is not None:
            raise ConfigError(
                f"layers {first!r} and {second!r} hold one parameter, so their subcomponents must "
                f"be shared too; declare the pair in ties, or decompose one of them only"
            )


def _check_widths(plan: SpdPlan, matrix: Mapping[str, Tensor]) -> None:
    for one in plan.layers:
        rank = int(torch.linalg.matrix_rank(matrix[one.name]))
        if one.width < rank:
            raise ConfigError(
                f"layer {one.name!r} has a matrix of rank {rank}, which {one.width} subcomponents "
                f"cannot add up to; train at least {rank}, or with a delta component"
            )
