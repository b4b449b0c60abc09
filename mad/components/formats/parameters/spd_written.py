"""goodfire-ai/spd: a decomposition written as a run directory of its main branch."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from mad import tensors
from mad.components.formats.checkpoint import writing
from mad.components.formats.parameters.base import Imported
from mad.components.formats.parameters.run import SETTINGS
from mad.components.formats.parameters.spd import CI
from mad.components.formats.pickles import pickled
from mad.components.parameters.importance import (
    ImportanceFunction,
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)
from mad.components.parameters.subcomponents import Subcomponents
from mad.errors import ConfigError


def write(imported: Imported, path: Path, *, model: nn.Module) -> None:
    """Write a run directory as main has it, with the weights of the monitored model.

    Raises:
        ConfigError: the layout cannot hold a layer, or the disk refuses.
    """
    kinds = {part.importance.kind for part in imported.parts}
    if len(kinds) > 1:
        raise ConfigError(
            f"goodfire-ai/spd knows one kind of importance a run, and here are {sorted(kinds)}; "
            "keep it in our own format"
        )
    hidden = max(_units(part.importance) for part in imported.parts)
    state: dict[str, object] = {}
    for part in imported.parts:
        state |= _state(part, imported, hidden)
    for key, tensor in model.state_dict().items():
        state[f"target_model.{key}"] = tensor
    with writing(path):
        tensors.write_durably(path / "model_0.pth", pickled(state))
        tensors.write_durably(path / SETTINGS, _settings(imported.parts, hidden).encode())


def _state(part: Subcomponents, imported: Imported, hidden: int) -> dict[str, object]:
    name = part.layer.name.replace(".", "-")
    if part.layer.kind == "conv2d":
        raise ConfigError(
            f"goodfire-ai/spd decomposes no convolutions, and {part.layer.name!r} is one; keep it "
            "in our own format"
        )
    found = {f"_components.{name}.V": part.v, f"_components.{name}.U": part.u}
    if part.layer.kind != "embedding" and part.layer.name in imported.biases:
        found[f"_components.{name}.bias"] = imported.biases[part.layer.name]
    layers = _layers_of(part.importance, hidden)
    return dict(found | {f"_ci_fns.{name}.layers.{rest}": one for rest, one in layers.items()})


def _units(function: ImportanceFunction) -> int:
    match function:
        case SharedImportance() | ScalarImportance() | VectorImportance():
            return function.b_in.shape[-1]
        case _:
            raise ConfigError(
                f"goodfire-ai/spd has no importance functions of kind {function.kind}"
            )


def _layers_of(function: ImportanceFunction, hidden: int) -> dict[str, Tensor]:
    """Return networks with as many hidden units, as all of a run have; those added do nothing."""
    more = (0, hidden - _units(function))
    match function:
        case SharedImportance():
            w_out = functional.pad(function.w_out, (0, 0, *more))
            tensors_of = (function.w_in, function.b_in, w_out, function.b_out)
        case ScalarImportance() | VectorImportance():
            w_in = function.w_in.unsqueeze(1) if function.w_in.ndim == 2 else function.w_in  # noqa: PLR2004  # scalar
            w_out = functional.pad(function.w_out, more).unsqueeze(2)
            tensors_of = (w_in, function.b_in, w_out, function.b_out.unsqueeze(1))
        case _:
            raise AssertionError(function.kind)
    first, bias, *rest = tensors_of
    whole = (functional.pad(first, more), functional.pad(bias, more), *rest)
    return dict(zip(("0.W", "0.b", "2.W", "2.b"), map(Tensor.contiguous, whole), strict=True))


def _settings(parts: tuple[Subcomponents, ...], hidden: int) -> str:
    """Write what a reader of the directory needs; what only training needs is its user's."""
    importance = parts[0].importance
    (ci_fn_type,) = (theirs for theirs, ours in CI.items() if ours == importance.kind)
    modules = "".join(f"- module_pattern: {part.layer.name}\n  C: {part.width}\n" for part in parts)
    return (
        f"ci_fn_type: {ci_fn_type}\nci_fn_hidden_dims:\n- {hidden}\nsigmoid_type: leaky_hard\n"
        f"module_info:\n{modules}"
    )
