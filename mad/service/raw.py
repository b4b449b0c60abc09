"""Elements as the wire has them, row-major and little-endian, whatever the protocol."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mad.errors import InputError

MAX_AXES: Final = 16
_MAX_EXTENT: Final = 2**31 - 1
_MAX_STRIDE: Final = 2**63 - 1
_MAX_SHOWN: Final = 80
NUMPY: Final[Mapping[torch.dtype, type[np.generic]]] = {
    torch.bool: np.bool_,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.uint32: np.uint32,
    torch.uint64: np.uint64,
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
}
"""The element types that NumPy has too."""


def check_shape(name: str, shape: Sequence[int]) -> None:
    """Raise InputError for dimensions that no tensor has."""
    if not 1 <= len(shape) <= MAX_AXES:
        raise InputError(f"{name} has {len(shape)} axes; send 1 to {MAX_AXES}, the batch first")
    if not all(0 <= extent <= _MAX_EXTENT for extent in shape):
        raise InputError(
            f"{name} has shape {list(shape)}; each dimension must be from 0 to {_MAX_EXTENT}"
        )


def tensor(name: str, shape: Sequence[int], dtype: torch.dtype, content: bytes) -> Tensor:
    """Read a tensor of a checked shape from as many bytes as it needs; they are copied once."""
    if not content:
        # No bytes fit any shape with an empty axis, but the strides of the others must be numbers.
        if math.prod(extent or 1 for extent in shape) > _MAX_STRIDE:
            raise InputError(f"{name} has shape {list(shape)}; send a smaller one")
        return torch.empty(tuple(shape), dtype=dtype)
    # A copy, because tensors are writable and the message's bytes are not. By NumPy, because torch
    # lets other threads in at each of its operations, which costs the event loop its turn.
    read = np.frombuffer(bytearray(content), dtype=NUMPY.get(dtype, np.uint8))
    if dtype is torch.bool and (largest := int(read.view(np.uint8).max())) > 1:
        raise InputError(f"{name} is BOOL with a byte of {largest}; write 0 or 1")
    if dtype not in NUMPY:
        return torch.from_numpy(read).view(dtype).reshape(tuple(shape))
    return torch.from_numpy(read.reshape(shape))


def raw_bytes(value: Tensor) -> bytes:
    """Return a tensor's elements."""
    if value.dtype in NUMPY:
        return value.numpy(force=True).tobytes()
    flat = value.detach().to("cpu").reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def shown(name: str) -> str:
    """Quote a caller's name for a message, cut where it is long."""
    return repr(name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}...")
