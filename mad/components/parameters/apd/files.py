"""Components of a model on disk: two tensors a layer, how they are read out, ``attributions.json``.

Components of another library come without a rule: the first fit takes one from trusted inputs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final, get_args

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from mad import tensors
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.apd.readout import ApdDecomposition
from mad.components.parameters.apd.rules import Above, Asked, Largest, Rule, Thresholds
from mad.components.parameters.layers import matrix_layer
from mad.errors import ConfigError

INDEX: Final = "attributions.json"
COMPONENTS: Final = "components.safetensors"
_FORMAT: Final = 1
_READ_OUT: Final = "attributions-read-out.safetensors"
_A, _B = "a/", "b/"
_AXES: Final = 3
_AGAIN: Final = "train it again with `mad train decomposition`, or restore the directory"


@final
@dataclass(frozen=True)
class ReadOut:
    """A rule, and what it was asked to be when it was taken from trusted inputs."""

    rule: Rule
    asked: Asked


@final
@dataclass(frozen=True)
class Kept:
    """Components, how they are read out, and digests of the inputs they or the rule have seen.

    ``read_out`` is None where no trusted inputs have been seen yet.
    """

    components: Components
    read_out: ReadOut | None
    seen: Int64[Tensor, " seen"]

    def beside(self, model: nn.Module) -> ApdDecomposition:
        """Return the decomposition of a model; ConfigError if nobody has said how to read it."""
        if self.read_out is None:
            raise ConfigError(
                "the components were never read out on trusted inputs, so that nothing says which "
                "an input uses: run `mad fit`, which takes thresholds from them"
            )
        return ApdDecomposition.of(model, self.components, self.read_out.rule)


def save_components(directory: Path, kept: Kept, model: nn.Module) -> None:
    """Write components of a model.

    The index comes last, so that a torn write leaves none.

    Raises:
        ConfigError: the directory cannot be written.
    """
    # Copies: layers that are tied may share theirs, and a file may not.
    found = {f"{_A}{name}": one.a.clone() for name, one in kept.components.items()}
    found |= {f"{_B}{name}": one.b.clone() for name, one in kept.components.items()}
    beside = {"seen": kept.seen}
    if kept.read_out is not None and isinstance(kept.read_out.rule, Above):
        beside["thresholds"] = kept.read_out.rule.thresholds
    index = {
        "format": _FORMAT,
        "layers": list(kept.components),
        "model": tensors.digest(model.state_dict()),
        "asked": None if kept.read_out is None else asdict(kept.read_out.asked),
        "digests": {COMPONENTS: tensors.digest(found), _READ_OUT: tensors.digest(beside)},
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / INDEX).unlink(missing_ok=True)
        for file, content in ((COMPONENTS, found), (_READ_OUT, beside)):
            tensors.write_durably(directory / file, tensors.serialise(content))
        tensors.write_durably(directory / INDEX, json.dumps(index, indent=2).encode())
    except OSError as cause:
        raise ConfigError(
            f"cannot write components to {directory}: {cause.strerror}; make room, or name another "
            "directory"
        ) from cause


def load_components(directory: Path, model: nn.Module) -> Kept:
    """Read the components of a model's layers.

    Raises:
        ConfigError: a file is missing, damaged, changed or of an unknown format, or components are
            of a model with other layers or weights.
    """
    index = _index(directory)
    found, beside = (_tensors(directory, file, index) for file in (COMPONENTS, _READ_OUT))
    path = directory / COMPONENTS
    components = {name: _factors(path, name, found, model) for name in index.layers}
    if not components or len({one.width for one in components.values()}) > 1:
        raise ConfigError(f"{path} has no components, or other numbers by layer; {_AGAIN}")
    if index.model != tensors.digest(model.state_dict()):
        raise ConfigError(
            f"{directory} has components of a model with other weights: load the weights that were "
            "decomposed, or train the decomposition again with `mad train decomposition`"
        )
    return Kept(components, _read_out(directory, index.asked, beside), _seen(directory, beside))


def load_seen(directory: Path) -> Int64[Tensor, " seen"]:
    """Read the digests of the inputs that trained components, or gave thresholds.

    Raises:
        ConfigError: a file is missing, damaged or changed.
    """
    return _seen(directory, _tensors(directory, _READ_OUT, _index(directory)))


@final
@dataclass(frozen=True)
class _Index:
    """What a directory says of its files; ``asked`` None of components without a rule."""

    layers: Sequence[str]
    model: str
    asked: Asked | None
    digests: Mapping[str, str]


def _index(directory: Path) -> _Index:
    path = directory / INDEX
    content = tensors.read_bytes(path)
    try:
        found = json.loads(content)
        if found["format"] != _FORMAT:
            raise ConfigError(f"{path} has format {found['format']}, not {_FORMAT}; {_AGAIN}")
        asked = found["asked"]
        return _Index(
            [str(name) for name in found["layers"]],
            str(found["model"]),
            None
            if asked is None
            else Asked(_thresholds(asked["thresholds"]), float(asked["active"])),
            {file: str(found["digests"][file]) for file in (COMPONENTS, _READ_OUT)},
        )
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise ConfigError(f"{path} is no index of components ({cause!r}); {_AGAIN}") from cause


def _tensors(directory: Path, file: str, index: _Index) -> dict[str, Tensor]:
    found = tensors.read_tensors(directory / file)
    if tensors.digest(found) != index.digests[file]:
        raise ConfigError(f"{directory / file} was changed since it was written; {_AGAIN}")
    return found


def _seen(directory: Path, beside: Mapping[str, Tensor]) -> Int64[Tensor, " seen"]:
    if "seen" not in beside:
        raise ConfigError(f"{directory} does not say which inputs trained the components; {_AGAIN}")
    return beside["seen"]


def _read_out(directory: Path, asked: Asked | None, beside: Mapping[str, Tensor]) -> ReadOut | None:
    if asked is None:
        return None
    if asked.thresholds == "none":
        return ReadOut(Largest(int(asked.active)), asked)
    if "thresholds" not in beside:
        raise ConfigError(
            f"{directory} has no thresholds, and its index says that it has; {_AGAIN}"
        )
    return ReadOut(Above(beside["thresholds"]), asked)


def _thresholds(name: str) -> Thresholds:
    for one in get_args(Thresholds):
        if one == name:
            return one  # type: ignore[no-any-return]  # get_args is untyped
    raise ValueError(name)


def _factors(path: Path, name: str, found: Mapping[str, Tensor], model: nn.Module) -> Factors:
    layer = matrix_layer(model, name)
    a, b = found.get(f"{_A}{name}", torch.zeros(())), found.get(f"{_B}{name}")
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
