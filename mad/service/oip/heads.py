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


class Columns(NamedTuple):
    """Numbers of each of ``inputs`` inputs, one output a column, already encoded."""

    inputs: int = 0
    encoded: bytes = b""


class Part(NamedTuple):
    """What one request of several has of its own, of which ``encoded`` comes after its outputs."""

    request_id: str
    rows: int
    encoded: bytes


_NO_COLUMNS: Final = Columns()


@final
class Heads:
    """Makes the responses of one model; ``columns`` are the names and datatypes of columns."""

    def __init__(self, model: str, version: str, columns: Sequence[tuple[str, str]] = ()) -> None:
        self._model = model
        self._version = version
        self._columns = columns
        self._known: dict[tuple[object, ...], bytes] = {}

    def response(
        self,
        request_id: str,
        outputs: Sequence[Output],
        parameters: bytes = b"",
        *,
        columns: Columns = _NO_COLUMNS,
    ) -> bytes:
        """Encode a response with these outputs, in order, columns and encoded parameters."""
        head = self._head(outputs, columns.inputs)
        contents = [wire.raw(output.content) for output in outputs]
        parts = (head, wire.request_id(request_id), *contents, columns.encoded, parameters)
        return b"".join(parts)

    def responses(
        self, parts: Sequence[Part], outputs: Sequence[Output], *, has_columns: bool
    ) -> Sequence[bytes]:
        """Encode a response for each of several requests, to which the rows of outputs belong."""
        sizes = [len(output.content) // output.shape[0] for output in outputs]
        heads = {
            rows: self._head([_first(rows, output) for output in outputs], rows * has_columns)
            for rows in {part.rows for part in parts}
        }
        answers, start = [], 0
        for part in parts:
            pieces = [heads[part.rows], wire.request_id(part.request_id)]
            for output, size in zip(outputs, sizes, strict=True):
                count = part.rows * size
                pieces.append(wire.raw_opening(count))
                pieces.append(output.content[start * size : start * size + count])
            pieces.append(part.encoded)
            answers.append(b"".join(pieces))
            start += part.rows
        return answers

    def _head(self, outputs: Sequence[Output], count: int) -> bytes:
        """Return what comes first in a response, with columns of so many inputs."""
        key = (count, *[output[:3] for output in outputs])
        head = self._known.get(key)
        if head is None:
            if len(self._known) >= _MAX_HEADS:
                self._known.clear()
            head = self._known[key] = self._described(outputs, count)
        return head

    def _described(self, outputs: Sequence[Output], count: int) -> bytes:
        described = pb.ModelInferResponse(model_name=self._model, model_version=self._version)
        for output in outputs:
            described.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        for name, datatype in self._columns if count else ():
            described.outputs.add(name=name, datatype=datatype, shape=(count,))
        return described.SerializeToString()


def _first(rows: int, output: Output) -> Output:
    """Describe the first rows of an output."""
    return output._replace(shape=(rows, *output.shape[1:]), content=b"")
