"""The digest of one input as it was sent: what a retry repeats, and an alert is known by."""

import hashlib
from collections.abc import Iterator, Mapping

from torch import Tensor

from mad.payloads import ActivationBatch, CodeBatch, Payload
from mad.service.raw import raw_bytes


def digest(payload: Payload, row: int) -> str:
    """Return the SHA-256 of one input: the bytes of its tensors, as sent, in order of name.

    Of a run elsewhere, those of the sites and then those of the outputs. Of codes, for each view
    the number of components, the components and their magnitudes, and then the label.
    """
    content = hashlib.sha256()
    for piece in _pieces(payload, row):
        content.update(piece)
    return content.hexdigest()


def _pieces(payload: Payload, row: int) -> Iterator[bytes]:
    match payload:
        case ActivationBatch(activations, outputs):
            yield from _rows(activations, row)
            yield from _rows(outputs, row)
        case CodeBatch(views, contexts):
            for _, codes in sorted(views.items()):
                start = int(codes.counts[:row].sum())
                own = slice(start, start + int(codes.counts[row]))
                yield raw_bytes(codes.counts[row : row + 1])
                yield raw_bytes(codes.components[own])
                yield raw_bytes(codes.magnitudes[own])
            yield raw_bytes(contexts[row : row + 1])
        case _:
            yield from _rows(payload, row)


def _rows(tensors: Mapping[str, Tensor], row: int) -> Iterator[bytes]:
    for _, tensor in sorted(tensors.items()):
        yield raw_bytes(tensor[row : row + 1])
