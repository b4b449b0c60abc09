"""Files of named arrays, joined into one dataset."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.arrays.npz import NpzShard
from mad.arrays.safetensors import SafetensorsShard
from mad.arrays.shard import Shard, spans
from mad.errors import ConfigError
from mad.types import Dataset, Inputs

PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"}


def open_dataset(paths: Sequence[Path], *, names: Sequence[str] = ()) -> Dataset:
    """Open ``.npz``, ``.safetensors`` and ``.parquet`` files; several are shards, concatenated.

    Reads as little as the formats allow: single rows of ``.safetensors``, one row group at a time
    of ``.parquet``, but whole arrays of ``.npz`` (once each). Floats that are NaN or infinite are
    refused when read. ``names`` are the arrays to read, all of them when empty.

    Raises:
        ConfigError: a file is missing, damaged, a pickle or of unknown kind; an array is missing or
            of a type no model takes; arrays differ in length, or shards in names, types or shapes.
    """
    if not paths:
        raise ConfigError("no data files; name at least one .npz, .safetensors or .parquet file")
    shards = tuple(_open(path, names) for path in paths)
    for shard in shards[1:]:
        _check_alike(shards[0], shard)
    return Shards(shards)


@final
@dataclass(frozen=True)
class Shards:
    """Files read as one dataset, in order."""

    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        """Return the number of inputs."""
        return sum(map(len, self.shards))

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs; ConfigError if a float is NaN or infinite."""
        starts = list(accumulate(map(len, self.shards), initial=0))
        assert rows.numel() > 0
        assert int(rows[0]) >= 0
        assert int(rows[-1]) < starts[-1]
        assert bool((rows.diff() >= 0).all())
        pieces = [
            _read(shard, rows[low:high] - start)
            for shard, start, (low, high) in zip(
                self.shards, starts, spans(rows, starts), strict=False
            )
            if low < high
        ]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _open(path: Path, names: Sequence[str]) -> Shard:
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; check the path")
    match path.suffix:
        case ".npz":
            return NpzShard.open(path, names)
        case ".safetensors":
            return SafetensorsShard.open(path, names)
        case ".parquet":
            return _open_parquet(path, names)
        case suffix if suffix in PICKLES:
            raise ConfigError(
                f"{path} is a pickle by its suffix; pickles can run code and are never read: "
                "store the arrays as .npz, .safetensors or .parquet"
            )
        case _:
            raise ConfigError(
                f"{path} has an unknown suffix {path.suffix!r}; "
                "store the arrays as .npz, .safetensors or .parquet"
            )


def _open_parquet(path: Path, names: Sequence[str]) -> Shard:
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"{path} needs pyarrow; install mad[parquet]")
    from mad.arrays.parquet import ParquetShard  # noqa: PLC0415 - pyarrow is an extra

    return ParquetShard.open(path, names)


def _check_alike(first: Shard, other: Shard) -> None:
    for name in sorted(first.columns.keys() | other.columns.keys()):
        have, want = (shard.columns.get(name, "no such array") for shard in (other, first))
        if have != want:
            raise ConfigError(
                f"{other.path} and {first.path} are no shards of one dataset: "
                f"array {name!r} is {have} in the one and {want} in the other"
            )


def _read(shard: Shard, rows: Int64[Tensor, " batch"]) -> Inputs:
    inputs = shard.take(rows)
    for name, array in inputs.items():
        finite = array.isfinite().reshape(len(rows), -1).all(dim=1)
        if not bool(finite.all()):
            row = int(rows[~finite][0])
            raise ConfigError(
                f"{shard.path}: array {name!r} has NaN or infinity in row {row}; remove that row"
            )
    return inputs
