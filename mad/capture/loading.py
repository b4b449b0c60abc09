"""From an operator's specification to the monitored model: a factory of theirs, and safetensors."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from mad.capture.model import MonitoredModel
from mad.errors import ConfigError
from mad.tensors import is_finite, read_tensors


def load_model(
    factory: str,
    weights: Path,
    *,
    name: str,
    inputs: Sequence[str],
    arguments: Mapping[str, object],
    base: Path,
) -> MonitoredModel:
    """Build the module with the operator's factory and load its weights strictly.

    ``factory`` is ``package.module:callable``, or ``file.py:callable`` relative to ``base``; it is
    called with ``arguments``. This runs the operator's code, so it never comes from a request.

    Raises:
        ConfigError: when the factory cannot be found or fails, or the weights do not fit.
    """
    build = load_factory(factory, base=base)
    try:
        module = build(**arguments)
    except Exception as cause:
        raise ConfigError(
            f"{factory} cannot be called with {dict(arguments)}: {cause!r}"
        ) from cause
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{factory} returned {type(module).__name__}, not a torch.nn.Module")
    tensors = _with_ties(module, read_tensors(weights))
    dtypes = {key: tensor.dtype for key, tensor in module.state_dict().items()}
    tensors = {key: tensor.to(dtypes.get(key, tensor.dtype)) for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        if not is_finite(tensor):
            raise ConfigError(
                f"{weights}: tensor {key!r} has numbers too large for {tensor.dtype}, which the "
                f"module of {factory} has; store it as that type"
            )
    try:
        module.load_state_dict(tensors)
    except RuntimeError as cause:
        reason = " ".join(str(cause).split())
        raise ConfigError(f"{weights} does not fit the module of {factory}: {reason}") from cause
    return MonitoredModel.of(module, name=name, inputs=inputs)


def _with_ties(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every name of a tied weight the tensor that the file holds under one of them."""
    names = module.state_dict()
    by_place = {(names[key].data_ptr(), names[key].shape): key for key in names if key in tensors}
    places = {key: (tensor.data_ptr(), tensor.shape) for key, tensor in names.items()}
    ties = {
        key: tensors[by_place[place]]
        for key, place in places.items()
        if key not in tensors and place in by_place and place[0]
    }
    return {**tensors, **ties}


def load_factory(factory: str, *, base: Path) -> Callable[..., object]:
    """Return what a factory names, ``package.module:callable`` or ``file.py:callable``.

    This runs the operator's code, so it never comes from a request. Raises ConfigError.
    """
    where, colon, attribute = factory.rpartition(":")
    if not colon or not where or not attribute:
        raise ConfigError(
            f"factory {factory!r} must be 'package.module:callable' or 'file.py:callable'"
        )
    module = _from_file(base / where) if where.endswith(".py") else _imported(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ConfigError(f"factory {factory!r}: {where} has no callable {attribute!r}")
    return found  # type: ignore[no-any-return]  # the operator's own code has no types we know


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as cause:
        raise ConfigError(f"cannot import {name!r} ({cause!r}); is it on PYTHONPATH?") from cause


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"there is no file {path} to take a factory from")
    spec = importlib.util.spec_from_file_location(f"_mad_model_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as cause:
        raise ConfigError(f"{path} fails when it is run: {cause!r}") from cause
    return module
