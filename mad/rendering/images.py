"""Arrays that are images ─▶ PNG, for the renderer ``mad.rendering:image``."""

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from mad.errors import ConfigError
from mad.rendering.base import SIGNATURE, OneInput, Renderer

_COLOURS: Final = {1: 0, 3: 2}
"""Channels, and what PNG calls them."""
_PLANE: Final = 2
"""Axes of an image in grey."""


def image(
    *, name: str = "", shape: Sequence[int] = (), black: float = 0.0, white: float | None = None
) -> Renderer:
    """Return a renderer of images in grey or RGB, channels first or last.

    ``name`` is the input that is the image, which may be left out where there is one input.
    ``shape`` is that of a flat array. ``black`` and ``white`` are the values that are shown as
    such: 0 to 1 for floats and 0 to 255 for integers, unless told.
    """

    def render(inputs: OneInput) -> bytes:
        array = chosen(inputs, name)
        if shape:
            array = array.reshape(*shape)
        bright = white if white is not None else 1.0 if array.is_floating_point() else 255.0
        if bright == black:
            raise ConfigError(f"white and black are both {black:g}; tell them apart")
        level = (array.double() - black) / (bright - black)
        return png(_channels_last((level.clamp(0, 1) * 255).round().to(torch.uint8)))

    return render


def chosen(inputs: OneInput, name: str) -> Shaped[Tensor, "..."]:
    """Return the input of a name, or the only one; ConfigError if there is none, or several."""
    if not name and len(inputs) == 1:
        return next(iter(inputs.values()))
    if name not in inputs:
        raise ConfigError(f"the inputs are {sorted(inputs)}; name one of them, not {name!r}")
    return inputs[name]


def _channels_last(array: UInt8[Tensor, "..."]) -> UInt8[Tensor, "row column channel"]:
    if array.ndim == _PLANE:
        return array.unsqueeze(2)
    if array.ndim == _PLANE + 1 and array.shape[2] in _COLOURS:
        return array
    if array.ndim == _PLANE + 1 and array.shape[0] in _COLOURS:
        return array.permute(1, 2, 0)
    raise ConfigError(
        f"an array of shape {tuple(array.shape)} is no image in grey or RGB; set shape, or write "
        "a renderer"
    )


def png(pixels: UInt8[Tensor, "row column channel"]) -> bytes:
    """Write an image in grey (1 channel) or RGB (3) as a PNG (ISO/IEC 15948)."""
    rows, columns, channels = pixels.shape
    # Every row begins with the kind of its filter: none.
    lines = torch.cat([pixels.new_zeros(rows, 1), pixels.reshape(rows, -1)], dim=1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOURS[channels], 0, 0, 0)
    body = zlib.compress(lines.contiguous().numpy().tobytes())
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
