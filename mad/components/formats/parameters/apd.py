"""ApolloResearch/apd: ``spd_model_<step>.pth``, of one or several instances trained side by side.

``<layer>.A`` is ``[instance, component, source, rank]`` and ``.B`` ``[instance, component, rank,
target]``, without the first axis where there is one instance. The toy model of superposition keeps
its second layer, the first one transposed, as none of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor, nn

from mad.components.formats.checkpoint import Weights
from mad.components.formats.parameters.run import Run
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.layers import MatrixLayer, matrix_layer, matrix_of
from mad.errors import ConfigError

_SECOND: Final = "linear2"
_AXES: Final = 3


@final
@dataclass(frozen=True)
class Instance:
    """The instance whose components add up to the model, but for a share of its squares."""

    components: Components
    number: int
    count: int
    missed: float


def read(path: Path, model: nn.Module, *, pickles: bool) -> Instance:
    """Read the instance of a checkpoint that decomposes the model.

    Raises:
        ConfigError: a file or tensor is missing, damaged or of another shape; no instance adds up
            to the model's weights; or pickles are not allowed.
    """
    run = Run.read(path, pickles=pickles)
    weights = Weights(run.path, {_key(key): one for key, one in run.found.items()})
    names = [key.removesuffix(".A") for key in weights.found if key.endswith(".A")]
    if not names:
        raise ConfigError(
            f"{run.path} has no tensor <layer>.A, only {', '.join(sorted(run.found)[:6])}; name "
            "the format it is of, such as spd"
        )
    layers = {name: matrix_layer(model, name) for name in names}
    count = _instances(weights, names[0])
    found = [_instance(weights, layers, model, number) for number in range(count)]
    missed = [_missed(one, model) for one in found]
    best = min(range(count), key=lambda number: missed[number])
    if missed[best] >= 1.0:
        raise ConfigError(
            f"{run.path} decomposes other weights than the model has: its nearest instance misses "
            f"{missed[best]:.3g} times their squares; name the settings of the model that was "
            "decomposed"
        )
    return Instance(found[best], best, count, missed[best])


def _key(key: str) -> str:
    """Return a key of early checkpoints, which have one layer without a name, as later ones do."""
    return f"linear1.{key}" if key in ("A", "B") else key


def _instances(weights: Weights, name: str) -> int:
    a = weights.any(f"{name}.A")
    return 1 if a.ndim == _AXES else len(a)


def _instance(
    weights: Weights, layers: Mapping[str, MatrixLayer], model: nn.Module, number: int
) -> Components:
    components = {name: _factors(weights, layer, number) for name, layer in layers.items()}
    first = components.get("linear1")
    if first is not None and "b_final" in weights and _SECOND not in components:
        second = matrix_layer(model, _SECOND)
        components[_SECOND] = Factors(second, first.b.mT.contiguous(), first.a.mT.contiguous())
    return components


def _factors(weights: Weights, layer: MatrixLayer, number: int) -> Factors:
    a, b = (_of(weights, f"{layer.name}.{end}", number) for end in "AB")
    if a.shape[1] != layer.source or tuple(b.shape) != (len(a), a.shape[2], layer.target):
        raise ConfigError(
            f"{weights.path}: the components of {layer.name!r} have shapes {tuple(a.shape)} and "
            f"{tuple(b.shape)}, and the model's matrix is {layer.source} by {layer.target}; name "
            "the settings of the model that was decomposed"
        )
    return Factors(layer, a, b)


def _of(weights: Weights, key: str, number: int) -> Tensor:
    tensor = weights.any(key)
    own = tensor[number] if tensor.ndim > _AXES and number < len(tensor) else tensor
    if own.ndim != _AXES:
        raise ConfigError(
            f"{weights.path}: tensor {key!r} has shape {tuple(tensor.shape)}; components, rows and "
            "columns are needed, of each instance: download it again"
        )
    return own


def _missed(components: Components, model: nn.Module) -> float:
    left, whole = torch.zeros(()), torch.zeros(())
    for one in components.values():
        matrix = matrix_of(model, one.layer)
        left = left + (matrix - one.matrices.sum(dim=0)).square().sum()
        whole = whole + matrix.square().sum()
    return float(left / whole.clamp_min(1e-30))
