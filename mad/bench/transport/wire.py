"""The bytes of an inference request, by the protocol's field numbers alone.

Every server is sent the same bytes but for the names, whatever library it is made of. Field numbers
are those of the Open Inference Protocol's ``ModelInferRequest``.
"""

from collections.abc import Sequence
from typing import Final

from mad.service.oip.wire import field, varint

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
STREAM_METHOD: Final = "/inference.GRPCInferenceService/ModelStreamInfer"


def request(model: str, name: str, shape: Sequence[int], content: bytes, *, id: str = "") -> bytes:  # noqa: A002  # the protocol's word
    """Encode a request with one FP32 input of raw contents, row-major and little-endian."""
    tensor = b"".join(
        (
            field(1, name.encode()),
            field(2, b"FP32"),
            field(3, b"".join(varint(extent) for extent in shape)),
        )
    )
    head = field(1, model.encode()) + (field(3, id.encode()) if id else b"")
    return head + field(5, tensor) + field(7, content)
