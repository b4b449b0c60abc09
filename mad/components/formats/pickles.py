"""Checkpoints that are pickles: read offline, without running code; the only place that does."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from mad import tensors
from mad.errors import ConfigError

_SAFE_FROM = "2.6"
"""Earlier versions of torch can be made to run code all the same (CVE-2025-32434)."""


def unpickled(path: Path, *, allowed: bool) -> Mapping[str, Any]:
    """Read a torch archive of tensors, numbers and texts.

    Raises:
        ConfigError: when not allowed, when the file is no such archive or asks for more, when it
            holds NaN or infinite numbers, or when torch is too old to be trusted with it.
    """
    if not allowed:
        raise ConfigError(
            f"{path} is a pickle, which can run code when opened; convert it offline with "
            "`mad convert`"
        )
    if TorchVersion(torch.__version__) < _SAFE_FROM:
        raise ConfigError(
            f"torch {torch.__version__} can be made to run code by {path}; upgrade to torch "
            f"{_SAFE_FROM} or later to convert it"
        )
    content = tensors.read_bytes(path)
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as cause:
        # Whatever the parser stumbles over: torch names no common error.
        raise ConfigError(
            f"{path} is not a torch archive of plain tensors ({_first_line(cause)}); download it "
            "again, and do not open it by other means unless you trust who made it"
        ) from cause
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds a {type(found).__name__}, not a state dict")
    return found


def tensors_of(path: Path, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors among the entries of a state dict, refusing NaN and infinite numbers."""
    found = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    for key, tensor in found.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ConfigError(
                f"{path}: tensor {key!r} holds NaN or infinite numbers; retrain or download again"
            )
    return found


def pickled(values: Mapping[str, object]) -> bytes:
    """Return the bytes of a torch archive, for libraries that read nothing else."""
    buffer = io.BytesIO()
    torch.save(dict(values), buffer)
    return buffer.getvalue()


def _first_line(cause: Exception) -> str:
    return next(iter(str(cause).splitlines()), type(cause).__name__)
