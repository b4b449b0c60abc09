"""Refuse what does not fit a baseline: inputs, activations or active sets."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from mad.baseline.bundle import Baseline, InputSpec
from mad.errors import BaselineError, InputError
from mad.payloads.batches import ActivationBatch, CodeBatch, ViewCodes
from mad.payloads.wanted import Shapes, asks_for_labels, widths
from mad.types import View

_BY_NUMPY = frozenset({torch.float16, torch.float32, torch.float64})
"""What NumPy looks through; for small tensors, as of one input, in a tenth of torch's time."""


def check_form(inputs: Mapping[str, Shaped[Tensor, "..."]], baseline: Baseline) -> None:
    """Refuse inputs that are not like the trusted ones in name, type or shape.

    Raises:
        InputError: says what is wrong with which input, and what was expected.
    """
    specs = baseline.manifest.inputs
    if len(inputs) != len(specs) or any(spec.name not in inputs for spec in specs):
        known = sorted(spec.name for spec in specs)
        raise InputError(f"inputs are {sorted(inputs)}; the model takes {known}")
    for spec in specs:
        _check_one("input", spec.name, inputs[spec.name], spec)
    if len(specs) > 1:
        _check_alike({name: tensor.shape[0] for name, tensor in inputs.items()}, "inputs")


def check_finite(inputs: Mapping[str, Shaped[Tensor, "..."]]) -> None:
    """Refuse inputs with numbers that are not finite; InputError names the input and its row."""
    for name, tensor in inputs.items():
        _check_finite(f"input {name!r}", tensor)


def check_activations(batch: ActivationBatch, baseline: Baseline, shapes: Shapes) -> None:
    """Refuse activations that our own run of the model could not have given.

    Numbers that are not finite are let through: a model that breaks down is what we look for.

    Raises:
        BaselineError: they are of another model, or the baseline needs more than activations.
        InputError: says what is wrong with which site or output, and what was expected.
    """
    _check_origin(baseline, "activations", model=batch.model_fingerprint)
    specs = {spec.name: spec for spec in shapes.sites}
    _check_names("sites", batch.activations, specs)
    for site, spec in specs.items():
        _check_one("site", site, batch.activations[site], spec)
    sizes = {site: len(tensor) for site, tensor in batch.activations.items()}
    _check_alike(sizes, "sites")
    if asks_for_labels(baseline) and shapes.output is not None:
        name = shapes.output.name
        if next(iter(batch.outputs), None) != name:
            raise InputError(
                f"outputs are {list(batch.outputs)}; send the model's first, {name!r}, first: "
                f"{baseline.revision} judges by the label that it predicts"
            )
        _check_one("output", name, batch.outputs[name], shapes.output)
        _check_alike({**sizes, name: len(batch.outputs[name])}, "sites and output")


def check_codes(batch: CodeBatch, baseline: Baseline) -> None:
    """Refuse active sets that the decomposition could not have given.

    Raises:
        BaselineError: they are of another model or decomposition, or the baseline has no
            components, or other activity than magnitudes.
        InputError: says what is wrong with which view, and what was expected.
    """
    _check_origin(baseline, "codes", model=batch.model_fingerprint)
    revision, wanted = baseline.revision, baseline.manifest.decomposition_fingerprint
    if batch.decomposition_fingerprint != wanted:
        raise _of_another(revision, "decomposition", wanted, batch.decomposition_fingerprint)
    width_of = widths(baseline)
    _check_names("views", batch.views, width_of)
    sizes = {view: len(codes.counts) for view, codes in batch.views.items()}
    _check_alike(sizes, "views")
    if not batch.size:
        raise InputError("the codes are an empty batch; send those of at least one input")
    for view, codes in batch.views.items():
        _check_view(view, codes, width_of[view])
    _check_labels(batch.contexts, baseline, size=batch.size)


def _check_origin(baseline: Baseline, what: str, *, model: str) -> None:
    manifest = baseline.manifest
    if manifest.activity == "effect":
        raise BaselineError(
            f"baseline {manifest.revision} goes by each component's effect on the model's answer, "
            f"which needs its gradients, and {what} have none: send inputs, or fit a baseline with "
            'activity = "magnitude"'
        )
    if model != manifest.model_fingerprint:
        raise _of_another(manifest.revision, "model", manifest.model_fingerprint, model)


def _of_another(revision: str, what: str, wanted: str, found: str) -> BaselineError:
    return BaselineError(
        f"baseline {revision} was fitted on another {what} (fingerprint {wanted[:12]}, yours is "
        f"{found[:12]!r}): run the {what} it was fitted on, or fit again"
    )


def _check_names(what: str, found: Collection[str], wanted: Collection[str]) -> None:
    if set(found) != set(wanted):
        raise InputError(f"{what} are {sorted(found)}; the baseline has {sorted(wanted)}")


def _check_alike(sizes: Mapping[str, int], what: str) -> None:
    if len(set(sizes.values())) > 1:
        raise InputError(f"{what} differ in batch size: {dict(sizes)}")


def _check_one(what: str, name: str, tensor: Tensor, spec: InputSpec) -> None:
    shape = tuple(tensor.shape)
    is_alike = tensor.dtype is getattr(torch, spec.dtype) and shape[1:] == spec.shape
    if is_alike and shape and shape[0]:
        return
    found = str(tensor.dtype).removeprefix("torch.")
    called, giver = f"{what} {name!r}", "takes" if what == "input" else "gives"
    if found != spec.dtype:
        raise InputError(f"{called} is {found}; the model {giver} {spec.dtype}")
    if not shape or shape[1:] != spec.shape:
        wanted = ", ".join(("batch", *map(str, spec.shape)))
        raise InputError(f"{called} has shape {shape}; expected ({wanted})")
    raise InputError(f"{called} is an empty batch; send at least one input")


def _check_finite(called: str, tensor: Tensor) -> None:
    if tensor.dtype in _BY_NUMPY and np.isfinite(tensor.numpy(force=True)).all():
        return
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        row = int((~torch.isfinite(tensor)).reshape(tensor.shape[0], -1).any(dim=1).nonzero()[0])
        raise InputError(f"{called} holds NaN or infinite numbers, first in row {row}; remove it")


def _check_view(view: View, codes: ViewCodes, width: int) -> None:
    entries, magnitudes = codes.components.numel(), codes.magnitudes.numel()
    total = int(codes.counts.sum())
    if not total == entries == magnitudes:
        raise InputError(
            f"view {view!r} has {entries} components and {magnitudes} magnitudes, and its counts "
            f"add up to {total}; send one of each an entry"
        )
    if entries and int(largest := codes.components.max()) >= width:
        raise InputError(f"view {view!r} has component {int(largest)}; there are {width}, from 0")
    rows = torch.repeat_interleave(torch.arange(len(codes.counts)), codes.counts)
    is_later = (codes.components.diff() > 0) | (rows.diff() > 0)
    if not is_later.all():
        row = int(rows[1:][~is_later][0])
        raise InputError(f"view {view!r}: the components of row {row} do not ascend; sort them")
    is_active = torch.isfinite(codes.magnitudes) & (codes.magnitudes != 0)
    if not is_active.all():
        row = int(rows[~is_active][0])
        raise InputError(
            f"view {view!r} has magnitude {float(codes.magnitudes[~is_active][0])} in row {row}; "
            "leave silent components out, and send the activations of a model that broke down"
        )


def _check_labels(contexts: Int64[Tensor, " labelled"], baseline: Baseline, *, size: int) -> None:
    if not asks_for_labels(baseline):
        return
    if contexts.numel() != size:
        raise InputError(
            f"there are {contexts.numel()} contexts for {size} inputs; {baseline.revision} judges "
            "by the label that the model predicts: send one an input"
        )
    if (least := int(contexts.min())) < 0:
        raise InputError(f"a context is {least}; labels that a model predicts are from 0")
