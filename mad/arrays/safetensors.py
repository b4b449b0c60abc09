"""One ``.safetensors`` file, memory-mapped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from jaxtyping import Int64, Shaped
from safetensors import safe_open
from torch import Tensor

from mad.arrays.shard import Column, common_length, dtype_of, select
from mad.errors import ConfigError
from mad.tensors import UNREADABLE
from mad.types import Inputs


@final
@dataclass(frozen=True)
class SafetensorsShard:
    """A ``.safetensors`` file: only the rows asked for are read, the rest stays on disk."""

    path: Path
    arrays: Mapping[str, Shaped[Tensor, "..."]]
    columns: Mapping[str, Column]
    length: int

    @staticmethod
    def open(path: Path, names: Sequence[str]) -> "SafetensorsShard":
        """Map the file and read its header."""
        try:
            with safe_open(path, framework="pt") as file:
                found = file.keys()
                arrays = {
                    name: file.get_tensor(name) for name in select(names, found=found, path=path)
                }
        except (OSError, *UNREADABLE) as error:
            raise ConfigError(
                f"{path} is truncated or no .safetensors file ({error}){_look_alike(path)}"
            ) from error
        for name, array in arrays.items():
            dtype_of(str(array.dtype).removeprefix("torch."), path=path, array=name)
        length = common_length({name: array.shape for name, array in arrays.items()}, path=path)
        columns = {
            name: Column(array.dtype, tuple(array.shape[1:])) for name, array in arrays.items()
        }
        return SafetensorsShard(path, arrays, columns, length)

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.length

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs."""
        return {name: array[rows] for name, array in self.arrays.items()}


def _look_alike(path: Path) -> str:
    start = b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(2)
    match start:
        case b"PK":
            return "; it is a zip archive, as torch.save writes, with a pickle that is never read"
        case bytes() if start[:1] == b"\x80":
            return "; it begins like a pickle, which is never read"
        case _:
            return ""
