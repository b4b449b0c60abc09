"""Parts of a response as its bytes, which protobuf reads as it reads its own.

Building the message first costs a good part of what a call costs; most answers differ from the last
in their elements and a few numbers alone. Field numbers are those of ``inference.proto``.
"""

import struct
from functools import lru_cache
from typing import Final

_DELIMITED: Final = 2
_MORE: Final = 0x80
_ID: Final = 3
_PARAMETERS: Final = 4
_RAW: Final = 6
_STREAMED: Final = 2
_REMEMBERED: Final = 256


def raw(content: bytes) -> bytes:
    """Encode the elements of the next output."""
    return field(_RAW, content)


def raw_opening(size: int) -> bytes:
    """Return what precedes so many bytes of the next output's elements."""
    return opening(_RAW, size)


def request_id(text: str) -> bytes:
    """Encode the request's id; nothing if it has none."""
    return field(_ID, text.encode()) if text else b""


@lru_cache(_REMEMBERED)
def truth(name: str, *, value: bool) -> bytes:
    """Encode a parameter that is true or false."""
    return _parameter(name, b"\x08\x01" if value else b"\x08\x00")


def text(name: str, value: str) -> bytes:
    """Encode a parameter that is text."""
    return _parameter(name, field(3, value.encode()))


def real(name: str, value: float) -> bytes:
    """Encode a parameter that is a number."""
    return _before_real(name) + struct.pack("<d", value)


def streamed(response: bytes) -> bytes:
    """Encode a response as an answer of a stream."""
    return opening(_STREAMED, len(response)) + response


@lru_cache(_REMEMBERED)
def _before_real(name: str) -> bytes:
    """Return what precedes the eight bytes that end the parameter."""
    return _parameter(name, b"\x21" + bytes(8))[:-8]


def _parameter(name: str, value: bytes) -> bytes:
    return field(_PARAMETERS, field(1, name.encode()) + field(2, value))


def field(number: int, content: bytes) -> bytes:
    """Encode text, bytes or a message, by a field number below 16."""
    return opening(number, len(content)) + content


@lru_cache(_REMEMBERED)
def opening(number: int, size: int) -> bytes:
    """Return what precedes so many bytes of text, bytes or a message."""
    return bytes((number << 3 | _DELIMITED,)) + varint(size)


def varint(value: int) -> bytes:
    """Encode a number that is not negative, seven bits a byte."""
    if value < _MORE:
        return bytes((value,))
    digits = bytearray()
    while value >= _MORE:
        digits.append(value & (_MORE - 1) | _MORE)
        value >>= 7
    digits.append(value)
    return bytes(digits)
