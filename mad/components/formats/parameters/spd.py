"""goodfire-ai/spd: the run directories of its main branch, of older runs, and of the paper (v1).

A run has ``final_config.yaml`` and ``model_<step>.pth``. Hard sigmoids of all ages agree between 0
and 1, so thresholds mean the same for all.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.formats.checkpoint import Weights
from mad.components.formats.parameters.base import Imported
from mad.components.formats.parameters.keys import as_on_main
from mad.components.formats.parameters.run import SETTINGS, Run
from mad.components.parameters.importance import (
    ImportanceFunction,
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)
from mad.components.parameters.layers import LayerKind, MatrixLayer
from mad.components.parameters.subcomponents import Subcomponents
from mad.errors import ConfigError

_START, _END = "_components.", ".V"
_INSERTED: Final = ".pre_identity"
_HARD: Final = ("leaky_hard", "hard", "lower_leaky_hard", "upper_leaky_hard")
CI: Final = {"mlp": "scalar", "vector_mlp": "vector", "shared_mlp": "shared"}
"""Kinds of importance functions, by the names that settings of the library have for them."""


def read(path: Path, *, pickles: bool) -> Imported:
    """Read the last checkpoint of a run, or the one named.

    Raises:
        ConfigError: a file or tensor is missing, damaged or of another shape; importance is
            decided by networks or sigmoids that have no equal here; or pickles are not allowed.
    """
    run = Run.read(path, pickles=pickles)
    _check_sigmoid(run)
    weights = Weights(run.path, as_on_main(run.found))
    names = [
        key[len(_START) : -len(_END)]
        for key in weights.found
        if key.startswith(_START) and key.endswith(_END)
    ]
    if not names:
        raise ConfigError(
            f"{run.path} has no tensor _components.<layer>.V, only "
            f"{', '.join(sorted(run.found)[:6])}...; name the format it is of, such as apd"
        )
    return _imported(run, weights, {name: _path(weights, name) for name in names})


def _check_sigmoid(run: Run) -> None:
    sigmoid = run.settings.get("sigmoid_type", "leaky_hard")
    if sigmoid not in _HARD:
        raise ConfigError(
            f"{run.path.parent / SETTINGS}: sigmoid_type {sigmoid!r} makes importances of logits "
            f"by another rule than the hard sigmoids {', '.join(_HARD)}, so thresholds would mean "
            "something else; train with leaky_hard"
        )


def _path(weights: Weights, name: str) -> str:
    """Return the path of a layer, whose dots its name has as dashes."""
    for key in weights.found:
        path = key.removeprefix("target_model.").removesuffix(".weight")
        if key.startswith("target_model.") and path.replace(".", "-") == name:
            return path
    return name.replace("-", ".")


def _imported(run: Run, weights: Weights, paths: Mapping[str, str]) -> Imported:
    parts, left_out = [], []
    matrices: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for name, path in paths.items():
        if path.endswith(_INSERTED):
            left_out.append(f"{path}: an identity that the run inserted, and the model has not")
            continue
        v = weights.matrix(f"{_START}{name}.V")
        u = weights.take(f"{_START}{name}.U", v.shape[1], _columns(weights, name))
        kind, matrix = _matrix(weights, path, v, u)
        layer = MatrixLayer(path, kind, v.shape[0], u.shape[1])
        parts.append(Subcomponents(layer, v, u, _importance(run, weights, name, v)))
        if matrix is not None:
            matrices[path] = matrix
        if (key := f"target_model.{path}.bias") in weights:
            biases[path] = weights.take(key, u.shape[1])
    if not parts:
        raise ConfigError(f"{run.path} decomposes nothing but {', '.join(left_out)}")
    return Imported(run.path, tuple(parts), matrices, biases, tuple(left_out))


def _columns(weights: Weights, name: str) -> int:
    return weights.matrix(f"{_START}{name}.U").shape[1]


def _matrix(
    weights: Weights,
    path: str,
    v: Float[Tensor, "source component"],
    u: Float[Tensor, "component target"],
) -> tuple[LayerKind, Float[Tensor, "source target"] | None]:
    """Return what kind of layer a matrix is of, and the matrix; None where it was not saved.

    Linear layers keep theirs transposed; of a square one the way round that is nearer to what the
    subcomponents add up to is right. Of those kept as they are, embeddings have no bias.
    """
    key = f"target_model.{path}.weight"
    if key not in weights:
        return "linear", None
    weight, whole = weights.matrix(key), v @ u
    kept: LayerKind = "conv1d" if f"target_model.{path}.bias" in weights else "embedding"
    both: tuple[tuple[LayerKind, Tensor], ...] = (("linear", weight.T), (kept, weight))
    fitting = [one for one in both if one[1].shape == whole.shape]
    if not fitting:
        weights.take(key, *whole.T.shape)
    kind, matrix = min(fitting, key=lambda one: float(torch.dist(one[1], whole)))
    return kind, matrix.contiguous()


def _importance(
    run: Run, weights: Weights, name: str, v: Float[Tensor, "source component"]
) -> ImportanceFunction:
    start = f"_ci_fns.{name}.layers."
    _check_depth(weights, start, name)
    source, width = v.shape
    kind = CI.get(run.settings.get("ci_fn_type", "mlp"))
    if kind == "shared":
        hidden = weights.matrix(f"{start}0.W").shape[1]
        return SharedImportance(
            weights.take(f"{start}0.W", source, hidden),
            weights.take(f"{start}0.b", hidden),
            weights.take(f"{start}2.W", hidden, width),
            weights.take(f"{start}2.b", width),
        )
    if kind is None:
        raise ConfigError(
            f"{run.path.parent / SETTINGS}: ci_fn_type {run.settings['ci_fn_type']!r} is none of "
            f"{', '.join(CI)}; export the decomposition with one of those"
        )
    hidden = weights.any(f"{start}0.W").shape[-1]
    read = 1 if kind == "scalar" else source
    w_in = weights.take(f"{start}0.W", width, read, hidden)
    rest = (
        weights.take(f"{start}0.b", width, hidden),
        weights.take(f"{start}2.W", width, hidden, 1).squeeze(2),
        weights.take(f"{start}2.b", width, 1).squeeze(1),
    )
    if kind == "scalar":
        return ScalarImportance(w_in.squeeze(1), *rest)
    return VectorImportance(w_in, *rest)


def _check_depth(weights: Weights, start: str, name: str) -> None:
    layers = sorted({key[len(start) :].split(".")[0] for key in weights.found if start in key})
    if layers != ["0", "2"]:
        own = [key for key in weights.found if key.startswith(f"_ci_fns.{name}.")]
        raise ConfigError(
            f"{weights.path}: the importance functions of {name!r} have {own or 'no tensors'}; "
            "networks of one hidden layer can be read, of another depth not: train with "
            "ci_fn_hidden_dims of one number"
        )
