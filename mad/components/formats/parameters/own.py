"""Our own directory of a parameter decomposition, from and to what other libraries have."""

from pathlib import Path

import torch
from torch import nn

from mad.components.formats.parameters.base import Imported, held_against
from mad.components.parameters.decomposed import DecomposedLayer
from mad.components.parameters.decomposition import ParameterDecomposition, PositionPooling
from mad.components.parameters.files import load_parameters, save_parameters
from mad.errors import ConfigError


def read(path: Path, model: nn.Module) -> Imported:
    """Read a directory of ours, whose decomposition must be of the model.

    Raises:
        ConfigError: as ``load_parameters``, or it is of another model.
    """
    found = load_parameters(path)
    found.check_model(model)
    return held_against(Imported(path, tuple(one.parts for one in found.layers), {}, {}), model)


def write(
    imported: Imported, path: Path, *, threshold: float, pooling: PositionPooling
) -> ParameterDecomposition:
    """Write a directory of ours, of which no inputs seen are known, and return what it holds.

    Raises:
        ConfigError: the run saved no weights, and no model was at hand; or the disk refuses.
    """
    missing = [one.layer.name for one in imported.parts if one.layer.name not in imported.matrices]
    if missing:
        raise ConfigError(
            f"{imported.path} has no weights of {', '.join(missing)}, of which its subcomponents "
            "are pieces; name the settings of the monitored model with --config"
        )
    layers = tuple(
        DecomposedLayer.of(
            part,
            matrix=imported.matrices[part.layer.name],
            bias=imported.biases.get(part.layer.name, torch.zeros(part.layer.target)),
        )
        for part in imported.parts
    )
    decomposition = ParameterDecomposition(layers, threshold, pooling)
    save_parameters(path, decomposition, seen=torch.zeros(0, dtype=torch.int64))
    return decomposition
