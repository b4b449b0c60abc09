"""What a renderer promises, and what is made of its answers: nothing it does can break a page."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from jaxtyping import Shaped
from torch import Tensor

from mad.errors import ConfigError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_BYTES: Final = 1024 * 1024
MAX_PIXELS: Final = 4096
"""Of one side. A small file can be a picture that a browser has no memory for."""
MAX_CHARACTERS: Final = 20_000

_HEADER: Final = len(SIGNATURE) + 4 + 4 + 8


OneInput: TypeAlias = Mapping[str, Shaped[Tensor, "..."]]
"""One input: its tensors by name, without the batch axis."""

Renderer: TypeAlias = Callable[[OneInput], bytes | str]
"""What an operator's factory returns: it shows one input as the bytes of a PNG, or as text. It is
called by one thread at a time."""


@final
@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG, and its size in pixels."""

    png: bytes
    width: int
    height: int


@final
@dataclass(frozen=True, slots=True)
class Words:
    """Text, which is nothing but text: whoever writes it into a page escapes it."""

    text: str


@final
@dataclass(frozen=True, slots=True)
class Blank:
    """Nothing to show, and why, for people."""

    reason: str


Shown: TypeAlias = Picture | Words | Blank


def read(answer: object) -> Picture | Words:
    """Return what a renderer answered, if it is what renderers promise.

    Raises:
        ConfigError: it is something else, too large, or no PNG.
    """
    if isinstance(answer, str):
        is_whole = len(answer) <= MAX_CHARACTERS
        return Words(answer if is_whole else f"{answer[:MAX_CHARACTERS]}…")
    if not isinstance(answer, bytes):
        raise ConfigError(
            f"the renderer returned {type(answer).__name__}; return the bytes of a PNG, or text"
        )
    if len(answer) > MAX_BYTES:
        raise ConfigError(
            f"the renderer returned {len(answer)} bytes, and at most {MAX_BYTES} are shown; make "
            "the picture smaller"
        )
    if not answer.startswith(SIGNATURE) or len(answer) < _HEADER:
        raise ConfigError(f"the renderer returned no PNG: it begins with {answer[:8]!r}")
    width, height = struct.unpack(">II", answer[_HEADER - 8 : _HEADER])
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        raise ConfigError(
            f"the renderer returned a picture of {width} by {height} pixels; a side has 1 to "
            f"{MAX_PIXELS}"
        )
    return Picture(answer, width, height)
