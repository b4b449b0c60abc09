"""What a reader of one file promises, and the checks that are the same for every format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.errors import ConfigError
from mad.types import Inputs

DTYPES: Mapping[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
"""The element types a model can be given, by name."""


@dataclass(frozen=True, slots=True)
class Column:
    """Element type of one array, and its shape without the batch axis."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


@runtime_checkable
class Shard(Protocol):
    """One file of named arrays, opened but not read."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def columns(self) -> Mapping[str, Column]:
        """Its arrays, by name."""
        ...

    def __len__(self) -> int:
        """Return the number of inputs."""
        ...

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs; ``rows`` are ascending."""
        ...


def dtype_of(name: str, *, path: Path, array: str) -> torch.dtype:
    """Return the element type called ``name``; ConfigError when no model input can have it."""
    if name not in DTYPES:
        raise ConfigError(
            f"{path}: array {array!r} holds {name}; store it as one of {', '.join(DTYPES)}"
        )
    return DTYPES[name]


def select(names: Sequence[str], *, found: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the arrays to read, all when ``names`` is empty; ConfigError if one is absent."""
    if not found:
        raise ConfigError(f"{path} holds no array; write at least one")
    missing = [name for name in names if name not in found]
    if missing:
        raise ConfigError(
            f"{path}: no array {', '.join(map(repr, missing))}; "
            f"the file holds {', '.join(map(repr, sorted(found)))}"
        )
    return tuple(names or sorted(found))


def common_length(shapes: Mapping[str, Sequence[int]], *, path: Path) -> int:
    """Return the length all arrays share; ConfigError when they differ or one is empty."""
    for name, shape in shapes.items():
        if len(shape) == 0:
            raise ConfigError(
                f"{path}: array {name!r} is a single number; its first axis must be inputs"
            )
        if 0 in shape:
            raise ConfigError(
                f"{path}: array {name!r} has shape {tuple(shape)}, which holds nothing"
            )
    lengths = {name: shape[0] for name, shape in shapes.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise ConfigError(
            f"{path}: arrays differ in length ({listing}); each input needs all of them"
        )
    return next(iter(lengths.values()))


def spans(rows: Int64[Tensor, " batch"], starts: Sequence[int]) -> list[tuple[int, int]]:
    """Return which of the ascending ``rows`` fall between each start and the next."""
    return list(pairwise(torch.searchsorted(rows, torch.tensor(starts)).tolist()))
