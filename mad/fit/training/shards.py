"""Activations on disk: what a model computes of its trusted inputs, for many trainings to read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad import tensors
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError
from mad.fit.reading import batches, row_digests, try_out
from mad.types import Dataset, Progress, Site

DIGEST: Final = "mad_input_digest"
"""The array that says, for each row, which input its activations are of: 64 bits of a hash."""

MODEL: Final = "mad_model_digest"
"""The array that says, for each row, which model they are of: 64 bits of its fingerprint."""

SHARD_BYTES: Final = 256_000_000
BATCH: Final = 256

_SUFFIXES: Final = frozenset({".safetensors", ".parquet", ".npz"})


def write_activations(  # noqa: PLR0913  # what is read, where it goes, and how it is watched
    model: MonitoredModel,
    sites: Sequence[Site],
    data: Dataset,
    *,
    rows: Int64[Tensor, " fitting"],
    directory: Path,
    progress: Progress,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Run the model once on some rows, and write what its sites gave as safetensors shards.

    An array a site as it came, one of digests of the inputs, and one that says which model it was.
    No shard is much larger than asked, which is also how much memory it takes.

    Raises:
        ConfigError: the model fails on the data, or the directory cannot be written or holds
            shards already.
    """
    try_out(model, sites, data)
    _begin(directory)
    gathered: dict[str, list[Tensor]] = defaultdict(list)
    written: list[Path] = []
    size = 0
    for chosen, inputs in batches(data, rows, BATCH, "writing activations", progress):
        found = {
            **capture(model, sites, inputs).activations,
            DIGEST: row_digests(inputs),
            MODEL: torch.full((len(chosen),), model_digest(model)),
        }
        for name, array in found.items():
            gathered[name].append(array)
        size += sum(array.nbytes for array in found.values())
        if size >= shard_bytes or int(chosen[-1]) == int(rows[-1]):
            written.append(_write(directory, len(written), gathered))
            gathered.clear()
            size = 0
    return written


def model_digest(model: MonitoredModel) -> int:
    """Return 64 bits of a model's fingerprint, as files of activations have them."""
    return int.from_bytes(bytes.fromhex(model.fingerprint)[:8], "big", signed=True)


def files_in(paths: Sequence[Path]) -> list[Path]:
    """Return the files, with those of directories in place of them, in the order of names.

    Raises:
        ConfigError: a directory has none.
    """
    found: list[Path] = []
    for path in paths:
        own = [path]
        if path.is_dir():
            own = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES)
        if not own:
            raise ConfigError(
                f"{path} has no .safetensors or .parquet file of activations; write them with "
                "`mad train activations`"
            )
        found += own
    return found


def _begin(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = sorted(one.name for one in directory.iterdir() if one.suffix in _SUFFIXES)
    except OSError as cause:
        raise ConfigError(
            f"cannot write activations to {directory}: {cause.strerror}; name another directory"
        ) from cause
    if held:
        raise ConfigError(
            f"{directory} holds {held[0]} already; name an empty directory, or remove its files"
        )


def _write(directory: Path, number: int, gathered: Mapping[str, Sequence[Tensor]]) -> Path:
    path = directory / f"activations-{number:05d}.safetensors"
    arrays = {name: torch.cat(list(parts)) for name, parts in gathered.items()}
    try:
        tensors.write_durably(path, tensors.serialise(arrays))
    except OSError as cause:
        raise ConfigError(
            f"cannot write activations to {path}: {cause.strerror}; make room, or name another "
            "directory"
        ) from cause
    return path
