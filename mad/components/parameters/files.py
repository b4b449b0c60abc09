"""A parameter decomposition on disk: a safetensors file a layer, and ``parameters.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, final, get_args

from jaxtyping import Int64
from torch import Tensor

from mad import tensors
from mad.components.parameters.decomposed import DecomposedLayer
from mad.components.parameters.decomposition import ParameterDecomposition, PositionPooling
from mad.components.parameters.importance import (
    ImportanceFunction,
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)
from mad.components.parameters.layers import LayerKind, MatrixLayer
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.plan import Distance
from mad.errors import ConfigError

INDEX: Final = "parameters.json"
_FORMAT: Final = 1
_SEEN: Final = "parameters-seen.safetensors"
_AGAIN: Final = "train it again with `mad train decomposition`, or restore the directory"

IMPORTANCE: Final[Mapping[str, type[ImportanceFunction]]] = {
    one.kind: one for one in (ScalarImportance, VectorImportance, SharedImportance)
}
"""Every kind of importance by its name in files."""


@final
@dataclass(frozen=True)
class _Row:
    name: str
    kind: LayerKind
    source: int
    target: int
    window: Sequence[Sequence[int]] | None
    importance: str
    matrix_digest: str
    missed: float
    file: str


def save_parameters(
    directory: Path,
    decomposition: ParameterDecomposition,
    *,
    seen: Int64[Tensor, " seen"],
    masked_output: Distance | None = None,
) -> None:
    """Write a decomposition, and digests of the inputs it has seen.

    ``masked_output`` is how what the masked model answers is compared; None where it is not asked.
    The index comes last, so that a torn write leaves no decomposition.

    Raises:
        ConfigError: when the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / INDEX).unlink(missing_ok=True)
        rows = []
        for number, layer in enumerate(decomposition.layers):
            file = f"parameters-{number:03d}.safetensors"
            tensors.write_durably(directory / file, tensors.serialise(layer.weights))
            rows.append(asdict(_row(layer, file)))
        tensors.write_durably(directory / _SEEN, tensors.serialise({"seen": seen}))
        index = {
            "format": _FORMAT,
            "threshold": decomposition.threshold,
            "pooling": decomposition.pooling,
            "masked_output": masked_output,
            "fingerprint": decomposition.fingerprint,
            "layers": rows,
        }
        tensors.write_durably(directory / INDEX, json.dumps(index, indent=2).encode())
    except OSError as cause:
        raise ConfigError(
            f"cannot write the decomposition to {directory}: {cause.strerror}; make room, or name "
            "a directory that can be written"
        ) from cause


def load_parameters(directory: Path) -> ParameterDecomposition:
    """Read the decomposition of a directory; ``check_model`` says whether it is of a model.

    Raises:
        ConfigError: the index or a file is missing, damaged, changed, or of an unknown format.
    """
    path = directory / INDEX
    content = tensors.read_bytes(path)
    try:
        index = json.loads(content)
        if index["format"] != _FORMAT:
            raise ConfigError(f"{path} has format {index['format']}, not {_FORMAT}; {_AGAIN}")
        decomposition = ParameterDecomposition(
            tuple(_read(directory, _Row(**row)) for row in index["layers"]),
            _threshold(index["threshold"]),
            _pooling(index["pooling"]),
        )
        is_own = decomposition.fingerprint == index["fingerprint"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise ConfigError(f"{path} is no index of a decomposition ({cause}); {_AGAIN}") from cause
    if not is_own:
        raise ConfigError(f"{directory} was changed since it was written; {_AGAIN}")
    return decomposition


def load_masked_output(directory: Path) -> Distance | None:
    """Read how what the masked model answers was compared; None if it was not asked.

    Raises:
        ConfigError: the index of a decomposition that can be read names no way that we know.
    """
    path = directory / INDEX
    # Directories of before there was a masked model do not tell.
    found = json.loads(tensors.read_bytes(path)).get("masked_output")
    if found is not None and found not in get_args(Distance):
        raise ConfigError(
            f"{path}: masked_output {found!r} is none of {', '.join(get_args(Distance))}; {_AGAIN}"
        )
    return found  # type: ignore[no-any-return]  # a distance


def load_seen(directory: Path) -> Int64[Tensor, " seen"]:
    """Read the digests of the inputs that a decomposition was trained on.

    Raises:
        ConfigError: when the file is missing or damaged.
    """
    path = directory / _SEEN
    seen = tensors.read_tensors(path).get("seen") if path.is_file() else None
    if seen is None:
        raise ConfigError(f"{path} does not say which inputs trained the decomposition; {_AGAIN}")
    return seen


def _row(layer: DecomposedLayer, file: str) -> _Row:
    return _Row(
        **asdict(layer.parts.layer),
        importance=layer.parts.importance.kind,
        matrix_digest=layer.matrix_digest,
        missed=layer.missed,
        file=file,
    )


def _read(directory: Path, row: _Row) -> DecomposedLayer:
    if Path(row.file).name != row.file:
        raise ConfigError(f"{directory / INDEX}: {row.file!r} is outside the directory")
    path = directory / row.file
    weights = tensors.read_tensors(path)
    layer = MatrixLayer(row.name, row.kind, row.source, row.target, _window(row.window))
    try:
        importance = _importance(row.importance, weights)
        v, u, bias = weights["v"], weights["u"], weights["bias"]
    except KeyError as cause:
        raise ConfigError(f"{path} has no tensor {cause}; {_AGAIN}") from cause
    fits = (
        v.shape == (layer.source, importance.width)
        and u.shape == (importance.width, layer.target)
        and bias.shape == (layer.target,)
    )
    if row.kind not in get_args(LayerKind) or not fits:
        raise ConfigError(f"{path} does not hold what {INDEX} says of it; {_AGAIN}")
    return DecomposedLayer(
        Subcomponents(layer, v, u, importance), bias, row.matrix_digest, row.missed
    )


def _importance(kind: str, weights: Mapping[str, Tensor]) -> ImportanceFunction:
    if kind not in IMPORTANCE:
        raise ConfigError(
            f"importance of the kind {kind!r} is none of {', '.join(IMPORTANCE)}; {_AGAIN}"
        )
    made = IMPORTANCE[kind]
    named = {field.name: weights[f"importance.{field.name}"] for field in fields(made)}  # type: ignore[arg-type]  # ImportanceFunction: a dataclass
    return made(**named)


def _window(of: Sequence[Sequence[int]] | None) -> Any:  # noqa: ANN401  # four pairs, or None
    return None if of is None else tuple((int(first), int(second)) for first, second in of)


def _threshold(of: float) -> float:
    if not 0.0 <= of < 1.0:
        raise ConfigError(f"threshold {of} is not from 0 to below 1; {_AGAIN}")
    return of


def _pooling(name: str) -> PositionPooling:
    for one in get_args(PositionPooling):
        if one == name:
            return one  # type: ignore[no-any-return]  # get_args is untyped
    raise ConfigError(
        f"pooling {name!r} is none of {', '.join(get_args(PositionPooling))}; {_AGAIN}"
    )
