"""Components of a model on disk: ``components.safetensors``, two tensors a layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from mad import tensors
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.layers import matrix_layer
from mad.errors import ConfigError

FILE: Final = "components.safetensors"
_A, _B = "a/", "b/"
_AXES: Final = 3


def save_components(directory: Path, components: Components) -> None:
    """Write the components of every layer.

    Raises:
        ConfigError: the directory cannot be written.
    """
    found = {f"{_A}{name}": one.a for name, one in components.items()}
    found |= {f"{_B}{name}": one.b for name, one in components.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tensors.write_durably(directory / FILE, tensors.serialise(found))
    except OSError as cause:
        raise ConfigError(
            f"cannot write components to {directory}: {cause.strerror}; make room, or name another "
            "directory"
        ) from cause


def load_components(directory: Path, model: nn.Module) -> Components:
    """Read the components of a model's layers.

    Raises:
        ConfigError: the file is missing or damaged, or the model has not such layers.
    """
    path = directory / FILE
    found = tensors.read_tensors(path)
    names = [name.removeprefix(_A) for name in found if name.startswith(_A)]
    if not names:
        raise ConfigError(f"{path} has components of no layer; write them again")
    components = {name: _factors(path, name, found, model) for name in names}
    if len({one.width for one in components.values()}) > 1:
        raise ConfigError(f"{path} has other numbers of components by layer; write them again")
    return components


def _factors(path: Path, name: str, found: Mapping[str, Tensor], model: nn.Module) -> Factors:
    layer = matrix_layer(model, name)
    a, b = found[f"{_A}{name}"], found.get(f"{_B}{name}")
    if (
        b is None
        or a.ndim != _AXES
        or tuple(b.shape) != (a.shape[0], a.shape[2], layer.target)
        or a.shape[1] != layer.source
    ):
        raise ConfigError(
            f"{path}: the components of {name!r} are not those of a matrix of {layer.source} by "
            f"{layer.target}; load the model that was decomposed, or write them again"
        )
    return Factors(layer, a, b)
