"""Requests that repeat an earlier one but for its id and elements, read without being parsed.

Nearly every caller sends the same request again and again with other numbers, and parsing it costs
a good part of what a call costs. What is not known yet is parsed by protobuf, and remembered if
nothing but one input's raw contents and the id can differ in what repeats it.

That is sound: protobuf reads fields one after the other, so where the bytes before some place are
fields that end there, what comes before and after that place does not change how the rest is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias, final

import numpy as np
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from mad.service.oip import inference_pb2 as pb, tensors, wire
from mad.service.raw import NUMPY

_ID, _RAW = 3, 7
_MAX_LENGTHS: Final = 256
"""Lengths of requests that are remembered; callers choose them."""
_MAX_ALIKE: Final = 8
"""Forms of one length: beyond, the first is forgotten."""
_MAX_HEAD: Final = 1024
"""Bytes before the elements of what is remembered."""


@final
@dataclass(frozen=True, slots=True)
class Form:
    """What all requests of one form share; the elements begin at ``starts``.

    ``before`` and ``after`` are the bytes around the id, which has no bytes where there is none.
    """

    model_name: str
    model_version: str
    input: str
    dtype: type[np.generic]
    shape: tuple[int, ...]
    before: bytes
    after: bytes
    id_ends: int
    starts: int

    @property
    def kind(self) -> tuple[object, ...]:
        """What requests must share for their inputs to be put one after the other."""
        return self.model_name, self.model_version, self.input, self.dtype, self.shape[1:]


@final
@dataclass(slots=True)
class Repeated:
    """A request of a known form: one input, no parameters, and no output asked for by name."""

    form: Form
    id: str
    content: bytes

    parameters: ClassVar[Mapping[str, pb.InferParameter]] = {}

    @property
    def model_name(self) -> str:
        """The model asked for."""
        return self.form.model_name

    @property
    def model_version(self) -> str:
        """Its version, or nothing."""
        return self.form.model_version

    def inputs(self) -> dict[str, Tensor]:
        """Read the input, which is copied once."""
        form = self.form
        read = np.frombuffer(self.content, form.dtype, offset=form.starts).reshape(form.shape)
        return {form.input: torch.from_numpy(read.copy())}


Request: TypeAlias = pb.ModelInferRequest | Repeated
"""A request of the protocol, as far as it had to be read."""


def parsed(request: Request) -> pb.ModelInferRequest:
    """Return a request as protobuf reads it."""
    if isinstance(request, Repeated):
        return pb.ModelInferRequest.FromString(request.content)
    return request


def alike(requests: Sequence[Request], *, most: int) -> Iterator[Sequence[Request]]:
    """Split requests, in their order, where they cannot be answered by one run of ``most`` inputs.

    Only what is ``Repeated`` goes together.
    """
    group: list[Request] = []
    kind: tuple[object, ...] | None = None
    count = 0
    for request in requests:
        own = request.form.kind if isinstance(request, Repeated) else None
        size = request.form.shape[0] if isinstance(request, Repeated) else 0
        if group and (own is None or own != kind or count + size > most):
            yield group
            group, count = [], 0
        group.append(request)
        kind = own
        count += size
    if group:
        yield group


def joined(requests: Sequence[Repeated]) -> dict[str, Tensor]:
    """Return the inputs of requests that are alike, one after the other."""
    form = requests[0].form
    # As bytes they are put together in half the time that arrays take.
    content = bytearray().join([one.content[one.form.starts :] for one in requests])
    read = np.frombuffer(content, form.dtype).reshape(-1, *form.shape[1:])
    return {form.input: torch.from_numpy(read)}


@final
class Forms:
    """Reads requests, and remembers their forms by their lengths; used by one thread."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Form, ...]] = {}

    def read(self, content: bytes) -> Request:
        """Read a request; DecodeError as protobuf raises it."""
        for form in self._known.get(len(content), ()):
            if content.startswith(form.before) and content.startswith(form.after, form.id_ends):
                try:
                    name = content[len(form.before) : form.id_ends].decode()
                except UnicodeDecodeError:
                    break  # for protobuf to say what is wrong
                return Repeated(form, name, content)
        request = pb.ModelInferRequest.FromString(content)
        if new := _form(content, request):
            self._remember(len(content), new)
        return request

    def _remember(self, length: int, form: Form) -> None:
        if len(self._known) >= _MAX_LENGTHS:
            self._known.clear()
        alike = self._known.get(length, ())
        self._known[length] = (*alike, form)[-_MAX_ALIKE:]


def _form(content: bytes, request: pb.ModelInferRequest) -> Form | None:
    """Return the form of a request that may be repeated; None for any other."""
    if len(request.inputs) != 1 or len(request.raw_input_contents) != 1:
        return None
    (message,), (raw,) = request.inputs, request.raw_input_contents
    if request.parameters or request.outputs or len(content) - len(raw) > _MAX_HEAD:
        return None
    datatype = tensors.DATATYPES.get(message.datatype)
    if datatype is None or not tensors.is_plain(message, datatype, len(raw)):
        return None
    around = _around(content, request, len(raw))
    numpy = NUMPY.get(datatype.dtype)
    if around is None or numpy is None:
        return None
    before, after = around
    starts = len(content) - len(raw)
    return Form(
        request.model_name,
        request.model_version,
        message.name,
        numpy,
        tuple(message.shape),
        before,
        after,
        id_ends=starts - len(after),
        starts=starts,
    )


def _around(content: bytes, request: pb.ModelInferRequest, size: int) -> tuple[bytes, bytes] | None:
    """Return the bytes before the id and those from there to the elements, which come last."""
    mark = wire.opening(_RAW, size)
    head = content[: len(content) - size]
    name = wire.field(_ID, request.id.encode()) if request.id else b""
    before, found, after = head.removesuffix(mark).partition(name) if name else (head, b"", b"")
    if not head.endswith(mark) or found != name:
        return None
    if not name:
        return (head, b"") if _is_whole(head.removesuffix(mark)) else None
    opening = name[: len(name) - len(request.id.encode())]
    are_whole = _is_whole(before) and _is_whole(after)
    return (before + opening, after + mark) if are_whole else None


def _is_whole(fields: bytes) -> bool:
    """Tell whether bytes are whole fields, with neither an id nor elements among them."""
    try:
        read = pb.ModelInferRequest.FromString(fields)
    except DecodeError:
        return False
    return not read.id and not read.raw_input_contents
