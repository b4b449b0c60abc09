"""Responses whose outputs are described already: most differ from the last in their bytes alone."""

from collections.abc import Sequence
from typing import Final, NamedTuple, final

from mad.service.oip import inference_pb2 as pb, wire

_MAX_HEADS: Final = 256
"""Sets of names and shapes that are remembered; callers choose both."""


class Output(NamedTuple):
    """One output, as raw bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes


@final
class Heads:
    """Makes the responses of one model."""

    def __init__(self, model: str, version: str) -> None:
        self._model = model
        self._version = version
        self._known: dict[tuple[tuple[str, str, tuple[int, ...]], ...], bytes] = {}

    def response(
        self, request_id: str, outputs: Sequence[Output], parameters: bytes = b""
    ) -> bytes:
        """Encode a response with these outputs, in order, and parameters that are encoded."""
        key = tuple(output[:3] for output in outputs)
        head = self._known.get(key)
        if head is None:
            if len(self._known) >= _MAX_HEADS:
                self._known.clear()
            head = self._known[key] = self._described(outputs)
        contents = [wire.raw(output.content) for output in outputs]
        return b"".join((head, wire.request_id(request_id), *contents, parameters))

    def _described(self, outputs: Sequence[Output]) -> bytes:
        described = pb.ModelInferResponse(model_name=self._model, model_version=self._version)
        for output in outputs:
            described.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        return described.SerializeToString()
