"""Tensors on disk and their digests: safetensors in, safetensors out, never a pickle."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mad.errors import ConfigError, MadError

UNREADABLE: Final = (SafetensorError, ValueError, KeyError, TypeError, RuntimeError)
"""What the parser raises for bytes that are no safetensors file, or for shapes torch has not."""
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")


def read_tensors(path: Path, *, error: type[MadError] = ConfigError) -> dict[str, Tensor]:
    """Read every tensor of one safetensors file.

    Raises:
        MadError: of type ``error``, when the file is missing, a pickle, truncated, or holds NaN or
            infinite numbers.
    """
    return parse_tensors(read_bytes(path, error=error), name=str(path), error=error)


def read_bytes(path: Path, *, error: type[MadError] = ConfigError) -> bytes:
    """Read one whole file, or raise ``error`` with the reason it cannot be read."""
    try:
        check_fits(path.stat().st_size, what=str(path), error=error)
        return path.read_bytes()
    except OSError as cause:
        raise error(f"cannot read {path}: {cause.strerror}; restore it, or name another") from cause


def check_fits(num_bytes: int, *, what: str, error: type[MadError] = ConfigError) -> None:
    """Refuse what is larger than this machine's memory, before the attempt ends the process."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > memory:
        raise error(
            f"{what} takes {num_bytes} bytes of memory and this machine has {memory}; it is "
            "damaged, or needs a larger machine"
        )


def write_durably(path: Path, content: bytes) -> None:
    """Write one whole file and wait until the disk has it; OSError when it cannot be."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def parse_tensors(
    content: bytes, *, name: str, error: type[MadError] = ConfigError
) -> dict[str, Tensor]:
    """Parse the bytes of a safetensors file called ``name``. Raises as ``read_tensors``."""
    try:
        tensors = load(content)
    except UNREADABLE as cause:
        if _PICKLE_START.match(content):
            raise error(
                f"{name} looks like a pickle or a torch archive, which can run code when opened; "
                "convert it offline with safetensors.torch.save_file(state_dict, path)"
            ) from cause
        raise error(f"{name} is not a whole safetensors file ({cause}); write it again") from cause
    for key, tensor in tensors.items():
        if not is_finite(tensor):
            raise error(
                f"{name}: tensor {key!r} holds NaN or infinite numbers; refit or retrain it"
            )
    return tensors


def is_finite(tensor: Tensor) -> bool:
    """Whether no number of a tensor, of any type, is NaN or infinite."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point():
        return True
    # Torch cannot ask this of numbers of eight bits.
    numbers = tensor.float() if tensor.element_size() == 1 else tensor
    return bool(torch.isfinite(numbers).all())


def serialise(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a safetensors file."""
    return save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})


def digest(tensors: Mapping[str, Tensor], *, note: str = "") -> str:
    """Return a SHA-256 over names, types, shapes and bytes, in the order of names, and a note."""
    sha = hashlib.sha256(note.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
