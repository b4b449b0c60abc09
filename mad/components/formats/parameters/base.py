"""What is read of a parameter decomposition from elsewhere, and how it is held against a model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mad.components.parameters.layers import MatrixLayer, bias_of, matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.errors import ConfigError

_NEAR = 1e-4
"""Weights that differ by no more than this share of their largest entry are the same weights."""


@final
@dataclass(frozen=True)
class Imported:
    """The subcomponents of each layer, and the layers' own matrices as the run had them.

    ``matrices`` and ``biases`` are by the name of the layer; a run that saved no weights has no
    matrices, and a layer without a bias none of it. ``left_out`` names what cannot be used here,
    each with the reason.
    """

    path: Path
    parts: tuple[Subcomponents, ...]
    matrices: Mapping[str, Float[Tensor, "_ _"]]
    biases: Mapping[str, Float[Tensor, " _"]]
    left_out: tuple[str, ...] = ()

    def missed(self, part: Subcomponents) -> float | None:
        """Return the share of a layer's squared weights that the delta component has.

        None where the run saved no weights.
        """
        matrix = self.matrices.get(part.layer.name)
        return None if matrix is None else _missed(matrix, part)


def held_against(imported: Imported, model: nn.Module) -> Imported:
    """Return the same with the layers of the monitored model, whose weights it must decompose.

    Raises:
        ConfigError: a layer is missing from the model, has another size, or other weights than
            those that the run decomposed.
    """
    layers = [
        _layer(imported, part, matrix_layer(model, part.layer.name), model)
        for part in imported.parts
    ]
    parts = tuple(
        replace(part, layer=layer) for part, layer in zip(imported.parts, layers, strict=True)
    )
    biased = {
        layer.name: layer
        for layer in layers
        if getattr(model.get_submodule(layer.name), "bias", None) is not None
    }
    return Imported(
        imported.path,
        parts,
        {layer.name: matrix_of(model, layer).clone() for layer in layers},
        {name: bias_of(model, layer).clone() for name, layer in biased.items()},
        imported.left_out,
    )


def _layer(
    imported: Imported, part: Subcomponents, layer: MatrixLayer, model: nn.Module
) -> MatrixLayer:
    if (layer.source, layer.target) != (part.layer.source, part.layer.target):
        raise ConfigError(
            f"{imported.path} decomposes {layer.name!r} as a matrix of {part.layer.source} by "
            f"{part.layer.target}, and the model's is {layer.source} by {layer.target}; name the "
            "settings of the model that was decomposed"
        )
    own, theirs = matrix_of(model, layer), imported.matrices.get(layer.name)
    if theirs is None:
        return _added_up(imported, part, layer, own)
    if layer.kind != part.layer.kind and layer.source == layer.target:
        theirs = _nearer(own, theirs)
    apart = float((own - theirs).abs().max())
    if apart > _NEAR * float(own.abs().max()):
        raise ConfigError(
            f"{imported.path} decomposes other weights than the model has: those of "
            f"{layer.name!r} differ by up to {apart:.3g}; name the settings of the model that was "
            "decomposed, or decompose this one"
        )
    return layer


def _added_up(
    imported: Imported, part: Subcomponents, layer: MatrixLayer, own: Float[Tensor, "source target"]
) -> MatrixLayer:
    """Refuse subcomponents, of a run that saved no weights, that add up to something else."""
    missed = _missed(own, part)
    if missed >= 1.0:
        raise ConfigError(
            f"{imported.path} decomposes other weights than the model has: the subcomponents of "
            f"{layer.name!r} miss {missed:.3g} times the squares of its matrix; name the settings "
            "of the model that was decomposed"
        )
    return layer


def _missed(matrix: Float[Tensor, "source target"], part: Subcomponents) -> float:
    rest = matrix - part.v @ part.u
    return float(rest.square().sum() / matrix.square().sum().clamp_min(1e-30))


def _nearer(
    own: Float[Tensor, "size size"], theirs: Float[Tensor, "size size"]
) -> Float[Tensor, "size size"]:
    """Return a square matrix the way round that the model keeps it."""
    ways = (theirs, theirs.T)
    return min(ways, key=lambda one: float(torch.dist(own, one)))
