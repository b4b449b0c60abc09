"""One ``.npz`` file. Its members cannot be read in part."""

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from mad.arrays.shard import Column, common_length, dtype_of, select
from mad.errors import ConfigError
from mad.tensors import check_fits
from mad.types import Inputs

SUFFIX = ".npy"
UNREADABLE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


@final
@dataclass(frozen=True)
class NpzShard:
    """A ``.npz`` file: each array is read whole, once, when first asked for, and then kept.

    Memory is that of the arrays, so prefer ``.safetensors`` or ``.parquet`` for large data.
    """

    path: Path
    columns: Mapping[str, Column]
    length: int
    loaded: dict[str, Shaped[Tensor, "..."]] = field(default_factory=dict, repr=False)

    @staticmethod
    def open(path: Path, names: Sequence[str]) -> "NpzShard":
        """Read the headers of the arrays, not the arrays."""
        try:
            with zipfile.ZipFile(path) as archive:
                members = _members(archive, path=path)
                headers = {
                    name: _header(archive, name, path=path)
                    for name in select(names, found=members, path=path)
                }
        except UNREADABLE as error:
            raise ConfigError(f"{path} is truncated or no .npz file: {error}") from error
        check_fits(
            sum(dtype.itemsize * math.prod(shape) for dtype, shape in headers.values()),
            what=f"{path}, which is read whole and not in parts as .safetensors is,",
        )
        return NpzShard(
            path,
            {name: Column(dtype, shape[1:]) for name, (dtype, shape) in headers.items()},
            common_length({name: shape for name, (_, shape) in headers.items()}, path=path),
        )

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.length

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs."""
        return {name: self._array(name)[rows] for name in self.columns}

    def _array(self, name: str) -> Shaped[Tensor, "..."]:
        if name not in self.loaded:
            try:
                with np.load(self.path, allow_pickle=False) as archive:
                    self.loaded[name] = torch.from_numpy(archive[name])
            except UNREADABLE as error:
                raise ConfigError(f"{self.path}: array {name!r} is damaged: {error}") from error
        return self.loaded[name]


def _members(archive: zipfile.ZipFile, *, path: Path) -> list[str]:
    strangers = [name for name in archive.namelist() if not name.endswith(SUFFIX)]
    if strangers:
        raise ConfigError(
            f"{path} holds {strangers[0]!r}, which is no array (torch.save writes such archives, "
            "with a pickle inside, which is never read); write it with numpy.savez"
        )
    return [name.removesuffix(SUFFIX) for name in archive.namelist()]


def _header(
    archive: zipfile.ZipFile, name: str, *, path: Path
) -> tuple[torch.dtype, tuple[int, ...]]:
    with archive.open(name + SUFFIX) as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(member)
        _check_size(archive.getinfo(name + SUFFIX), dtype, shape, path=path)
    if dtype.hasobject:
        raise ConfigError(
            f"{path}: array {name!r} holds Python objects, which only a pickle can store and which "
            "are never read; store numbers"
        )
    return dtype_of(dtype.name if dtype.isnative else dtype.str, path=path, array=name), shape


def _check_size(
    member: zipfile.ZipInfo, dtype: "np.dtype[np.generic]", shape: tuple[int, ...], *, path: Path
) -> None:
    """Refuse a header that promises more numbers than follow it, which would be given memory."""
    size = dtype.itemsize * math.prod(shape)
    if not dtype.hasobject and size > member.file_size:
        raise ConfigError(
            f"{path}: {member.filename} promises {size} bytes of numbers and holds "
            f"{member.file_size} with its header; it is damaged, write it again"
        )
