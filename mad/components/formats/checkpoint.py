"""What checkpoints from elsewhere are made of, each piece asked for by name, type and shape."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from torch import Tensor

from mad import tensors
from mad.errors import ConfigError

_Kind = TypeVar("_Kind")


@final
@dataclass(frozen=True)
class Weights:
    """The tensors of one file."""

    path: Path
    found: Mapping[str, Tensor]

    @staticmethod
    def read(path: Path) -> "Weights":
        """Read a safetensors file; ConfigError as ``tensors.read_tensors``."""
        return Weights(path, tensors.read_tensors(path))

    def __contains__(self, key: str) -> bool:
        """Whether there is a tensor of that name."""
        return key in self.found

    def take(self, key: str, *shape: int) -> Tensor:
        """Return one tensor in single precision; ConfigError unless it has that shape."""
        tensor = self.any(key)
        if tuple(tensor.shape) != shape:
            raise ConfigError(
                f"{self.path}: tensor {key!r} has shape {tuple(tensor.shape)}, and by the other "
                f"tensors and settings it needs {shape}; download it again, or name its format"
            )
        return tensor

    def matrix(self, key: str) -> Tensor:
        """Return one tensor with two axes, which gives the sizes of the others."""
        tensor = self.any(key)
        if tensor.ndim != 2 or 0 in tensor.shape:  # noqa: PLR2004  # rows and columns
            raise ConfigError(
                f"{self.path}: tensor {key!r} has shape {tuple(tensor.shape)}; a matrix is needed: "
                "download it again, or name its format"
            )
        return tensor

    def any(self, key: str) -> Tensor:
        """Return one tensor of any shape, in single precision."""
        if key not in self.found:
            raise ConfigError(
                f"{self.path} has no tensor {key!r}, only {', '.join(sorted(self.found))}; "
                "name the format it is of"
            )
        return self.found[key].detach().float().contiguous()


@final
@dataclass(frozen=True)
class Settings:
    """What a JSON file says; None where it is silent and there is a default."""

    path: Path
    values: Mapping[str, Any]

    @staticmethod
    def read(path: Path) -> "Settings":
        """Read a JSON file; ConfigError if it is none, or no object."""
        content = tensors.read_bytes(path)
        try:
            values = json.loads(content)
        except ValueError as cause:
            raise ConfigError(f"{path} is not JSON ({cause}); download it again") from cause
        if not isinstance(values, dict):
            raise ConfigError(f"{path} is not a JSON object; download it again")
        return Settings(path, values)

    def inner(self, key: str) -> "Settings":
        """Return a part, empty if it is not there."""
        part = self.values.get(key)
        return Settings(self.path, part if isinstance(part, dict) else {})

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text."""
        return self._one(key, str, default)

    def count(self, key: str, default: int | None = None) -> int:
        """Return a whole number of zero or more."""
        value = self._one(key, int, default)
        if value < 0:
            raise self._wrong(key, "a whole number of zero or more")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a truth value."""
        return self._one(key, bool, default)

    def _one(self, key: str, kind: type[_Kind], default: _Kind | None) -> _Kind:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        # A truth value is an int to Python, not to those who write settings.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._wrong(key, f"a {kind.__name__}")
        return value

    def _wrong(self, key: str, wanted: str) -> ConfigError:
        return ConfigError(
            f"{self.path}: {key!r} is {self.values.get(key)!r}, and must be {wanted}; mend it, or "
            "name the format it is of"
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk's refusal into ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as cause:
        raise ConfigError(
            f"cannot write a dictionary to {path}: {cause.strerror}; make room, or name another "
            "directory"
        ) from cause


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write settings."""
    tensors.write_durably(path, json.dumps(values, indent=2).encode())
