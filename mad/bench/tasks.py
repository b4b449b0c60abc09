"""A task folder in; a monitored model, its trusted data and its labelled test inputs out.

A folder holds ``meta.json`` (what the task is), ``model.py`` (``build(**model_args)``),
``model.safetensors`` (its weights) and ``data.npz`` (``trusted``, ``test_normal``,
``test_anomalous`` and perhaps ``benign_shift``).
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Shaped
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mad.capture.hooks import capture
from mad.capture.loading import load_model
from mad.capture.model import MonitoredModel
from mad.capture.sites import resolve
from mad.errors import ConfigError
from mad.types import Inputs, Site

Encoding: TypeAlias = Literal["image_u8", "bits", "tokens", "float"]
"""How ``data.npz`` holds inputs: bytes to divide by 255, zeros and ones, token ids, or numbers."""

INPUT = "input"
"""The name a task's model gives its only input."""


@final
@dataclass(frozen=True)
class Task:
    """A model with ordinary and anomalous inputs.

    ``benign_shift`` has ordinary inputs changed harmlessly; None where the task has none.
    ``is_classifier`` says that the model's output is one logit for each class.
    """

    name: str
    model: MonitoredModel
    sites: tuple[Site, ...]
    is_classifier: bool
    trusted: Inputs
    test_normal: Inputs
    test_anomalous: Inputs
    benign_shift: Inputs | None

    @property
    def tests(self) -> Mapping[str, Inputs]:
        """The inputs to measure on, by the names they have in ``data.npz``."""
        shift = {} if self.benign_shift is None else {"benign_shift": self.benign_shift}
        return {"test_normal": self.test_normal, "test_anomalous": self.test_anomalous} | shift


def load_task(folder: Path) -> Task:
    """Read one task; runs the folder's ``model.py``, so it must be one the operator trusts.

    Raises:
        ConfigError: a file, a field or an array is missing or cannot be used.
    """
    meta = _read_meta(folder / "meta.json")
    arrays = _read_arrays(folder / "data.npz")
    model = load_model(
        "model.py:build",
        folder / "model.safetensors",
        name=meta.name,
        inputs=[INPUT],
        arguments=meta.model_args,
        base=folder,
    )
    named = {name: _decode(name, array, meta.input_encoding) for name, array in arrays.items()}
    task = Task(
        name=meta.name,
        model=model,
        sites=resolve(model.module, meta.sites),
        is_classifier=meta.output == "logits",
        trusted=named["trusted"],
        test_normal=named["test_normal"],
        test_anomalous=named["test_anomalous"],
        benign_shift=named.get("benign_shift"),
    )
    _try_one(task)
    return task


def batches(inputs: Inputs, *, size: int) -> Iterator[Inputs]:
    """Cut inputs into batches of at most ``size``."""
    for start in range(0, len(next(iter(inputs.values()))), size):
        yield {name: array[start : start + size] for name, array in inputs.items()}


class _Meta(BaseModel):
    """The fields of ``meta.json`` that a detector may know; tasks describe themselves in others."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    name: Annotated[str, Field(min_length=1)]
    sites: Annotated[list[Site], Field(min_length=1)]
    input_encoding: Encoding
    model_args: dict[str, object] = {}
    output: str = ""


def _read_meta(path: Path) -> _Meta:
    try:
        return _Meta.model_validate_json(path.read_bytes())
    except OSError as cause:
        raise ConfigError(f"cannot read {path}: {cause.strerror}") from cause
    except ValidationError as cause:
        first = cause.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        given = "" if first["type"] == "missing" else f", not {first['input']!r:.80}"
        raise ConfigError(f"{path}: {field}: {first['msg']}{given}") from cause


def _read_arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    wanted = ("trusted", "test_normal", "test_anomalous")
    try:
        # Opened here: numpy leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in wanted if name not in archive]
            if missing:
                raise ConfigError(f"{path} has no array {missing[0]!r}; it has {archive.files}")
            return {name: archive[name] for name in (*wanted, "benign_shift") if name in archive}
    except OSError as cause:
        raise ConfigError(f"cannot read {path}: {cause.strerror or cause}") from cause
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as cause:
        raise ConfigError(f"{path} is not a whole .npz file of plain arrays ({cause})") from cause


def _decode(name: str, array: Shaped[np.ndarray, "batch ..."], encoding: Encoding) -> Inputs:
    if array.ndim == 0 or array.shape[0] == 0:
        raise ConfigError(f"array {name!r} of shape {array.shape} holds no inputs")
    kinds = {"image_u8": "u", "bits": "bui", "tokens": "ui", "float": "fui"}
    if array.dtype.kind not in kinds[encoding] or (encoding == "image_u8" and array.itemsize > 1):
        raise ConfigError(f"array {name!r} is {array.dtype}, which is not encoding {encoding!r}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ConfigError(f"array {name!r} holds NaN or infinite numbers")
    match encoding:
        case "image_u8":
            return {INPUT: torch.from_numpy(array).float().div(255.0).unsqueeze(1)}
        case "tokens":
            return {INPUT: torch.from_numpy(array.astype(np.int64))}
        case "bits" | "float":
            return {INPUT: torch.from_numpy(array.astype(np.float32))}


def _try_one(task: Task) -> None:
    one: Mapping[str, torch.Tensor] = {name: array[:1] for name, array in task.trusted.items()}
    try:
        capture(task.model, task.sites, one)
    except (RuntimeError, TypeError, ValueError, IndexError) as cause:
        shape = tuple(one[INPUT].shape)
        raise ConfigError(f"the model fails on one input of shape {shape}: {cause}") from cause
