"""The bytes of an inference request, by the protocol's field numbers alone.

Every server is sent the same bytes but for the names, whatever library it is made of. Field numbers
are those of the Open Inference Protocol's ``ModelInferRequest``.
"""

from collections.abc import Iterator, Sequence
from typing import Final

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
STREAM_METHOD: Final = "/inference.GRPCInferenceService/ModelStreamInfer"

_VARINT_BITS: Final = 7
_MORE: Final = 0x80
_BYTES: Final = 2


def request(model: str, name: str, shape: Sequence[int], content: bytes, *, id: str = "") -> bytes:  # noqa: A002  # the protocol's word
    """Encode a request with one FP32 input of raw contents, row-major and little-endian."""
    tensor = b"".join(
        (
            _field(1, name.encode()),
            _field(2, b"FP32"),
            _field(3, b"".join(bytes(_varint(extent)) for extent in shape)),
        )
    )
    head = _field(1, model.encode()) + (_field(3, id.encode()) if id else b"")
    return head + _field(5, tensor) + _field(7, content)


def _field(number: int, content: bytes) -> bytes:
    return bytes((*_varint(number << 3 | _BYTES), *_varint(len(content)))) + content


def _varint(value: int) -> Iterator[int]:
    while value >= _MORE:
        yield value & (_MORE - 1) | _MORE
        value >>= _VARINT_BITS
    yield value
