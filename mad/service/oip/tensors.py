"""Tensors of the protocol, whose elements are raw bytes or numbers by type, and ours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from mad.errors import InputError
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.heads import Output
from mad.service.raw import MAX_AXES, check_shape, raw_bytes, shown, tensor as raw_tensor

MAX_TENSORS: Final = 64
_Message: TypeAlias = (
    pb.ModelInferRequest.InferInputTensor | pb.ModelInferResponse.InferOutputTensor
)


@final
@dataclass(frozen=True, slots=True)
class Datatype:
    """An element type: ours, and the field of typed contents that carries it, if one does.

    ``carried`` is how that field's numbers are held; they may not fit the type.
    """

    dtype: torch.dtype
    field: str = ""
    carried: type[np.generic] = np.void


DATATYPES: Final[Mapping[str, Datatype]] = {
    "BOOL": Datatype(torch.bool, "bool_contents", np.bool_),
    "INT8": Datatype(torch.int8, "int_contents", np.int32),
    "INT16": Datatype(torch.int16, "int_contents", np.int32),
    "INT32": Datatype(torch.int32, "int_contents", np.int32),
    "INT64": Datatype(torch.int64, "int64_contents", np.int64),
    "UINT8": Datatype(torch.uint8, "uint_contents", np.uint32),
    "UINT16": Datatype(torch.uint16, "uint_contents", np.uint32),
    "UINT32": Datatype(torch.uint32, "uint_contents", np.uint32),
    "UINT64": Datatype(torch.uint64, "uint64_contents", np.uint64),
    "FP16": Datatype(torch.float16),
    "BF16": Datatype(torch.bfloat16),
    "FP32": Datatype(torch.float32, "fp32_contents", np.float32),
    "FP64": Datatype(torch.float64, "fp64_contents", np.float64),
}
_NAMES: Final = {datatype.dtype: name for name, datatype in DATATYPES.items()}


def inputs(request: pb.ModelInferRequest) -> dict[str, Tensor]:
    """Read a request's inputs by name; what is raw is copied once.

    Raises InputError, naming the input, where its type, shape and elements do not fit together.
    """
    count, raw = len(request.inputs), request.raw_input_contents
    if not 1 <= count <= MAX_TENSORS:
        raise InputError(f"the request has {count} inputs; send 1 to {MAX_TENSORS}")
    if raw and len(raw) != count:
        raise InputError(
            f"the request has {count} inputs and {len(raw)} raw_input_contents; send one for each "
            "input, or none"
        )
    read: dict[str, Tensor] = {}
    for index, message in enumerate(request.inputs):
        if message.name in read:
            raise InputError(f"input {shown(message.name)} is given twice; send it once")
        read[message.name] = _input(message, raw[index] if raw else None)
    return read


def output(response: pb.ModelInferResponse, index: int) -> Tensor:
    """Read one output that another server made; raises as ``inputs``."""
    message, raw = response.outputs[index], response.raw_output_contents
    name = f"output {shown(message.name)}"
    return _tensor(name, message, raw[index] if index < len(raw) else None)


def datatype_of(dtype: torch.dtype) -> str:
    """Name an element type that the protocol has."""
    return _NAMES[dtype]


def carried(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs whose element type the protocol has; complex numbers, say, it has not."""
    return {name: output for name, output in outputs.items() if output.dtype in _NAMES}


def written(name: str, output: Tensor) -> Output:
    """Write an output as raw bytes."""
    return Output(name, _NAMES[output.dtype], tuple(output.shape), raw_bytes(output))


def _input(message: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    datatype = DATATYPES.get(message.datatype)
    if raw is not None and datatype is not None and is_plain(message, datatype, len(raw)):
        return raw_tensor(message.name, tuple(message.shape), datatype.dtype, raw)
    name = f"input {shown(message.name)}"
    if message.parameters:
        _check_parameters(name, message.parameters)
    return _tensor(name, message, raw)


def _tensor(name: str, message: _Message, raw: bytes | None) -> Tensor:
    datatype = _datatype(name, message.datatype)
    shape = tuple(message.shape)
    check_shape(name, shape)
    if raw is None:
        return _typed(name, message, datatype, shape)
    if message.HasField("contents") and message.contents.ListFields():
        raise InputError(f"{name} has contents beside raw_input_contents; send one of the two")
    needed = math.prod(shape) * datatype.dtype.itemsize
    if len(raw) != needed:
        raise InputError(
            f"{name} has {len(raw)} raw bytes; shape {list(shape)} of {message.datatype} needs "
            f"{needed}"
        )
    return raw_tensor(name, shape, datatype.dtype, raw)


def is_plain(message: pb.ModelInferRequest.InferInputTensor, datatype: Datatype, size: int) -> bool:
    """Say at once of what nearly every caller sends that nothing is wrong with it.

    ``size`` is how many raw bytes there are.
    """
    shape = tuple(message.shape)
    return (
        0 < len(shape) <= MAX_AXES
        and min(shape) > 0
        and math.prod(shape) * datatype.dtype.itemsize == size
        and datatype.dtype is not torch.bool
        and not message.parameters
        and not message.HasField("contents")
    )


def _datatype(name: str, given: str) -> Datatype:
    found = DATATYPES.get(given)
    if found is None:
        known = ", ".join(DATATYPES)
        why = (
            "; the model takes numbers: turn text and images into numbers first"
            if given == "BYTES"
            else ""
        )
        raise InputError(f"{name} has datatype {shown(given)}; use one of {known}{why}")
    return found


def _typed(
    name: str,
    message: _Message,
    datatype: Datatype,
    shape: Sequence[int],
) -> Tensor:
    if not datatype.field:
        raise InputError(
            f"{name} is {message.datatype}, which has no typed contents; send raw_input_contents"
        )
    given = [field.name for field, _ in message.contents.ListFields()]
    if given not in ([], [datatype.field]):
        raise InputError(
            f"{name} is {message.datatype} with elements in {' and '.join(given)}; send them in "
            f"{datatype.field} alone"
        )
    numbers = np.array(getattr(message.contents, datatype.field), dtype=datatype.carried)
    if numbers.size != math.prod(shape):
        raise InputError(
            f"{name} has {numbers.size} elements; shape {list(shape)} needs {math.prod(shape)}"
        )
    if not numbers.size:
        return raw_tensor(name, shape, datatype.dtype, b"")
    tensor = torch.from_numpy(numbers).to(datatype.dtype)
    if datatype.dtype.itemsize < numbers.itemsize and (tensor.numpy() != numbers).any():
        wrong = numbers[tensor.numpy() != numbers][0]
        raise InputError(f"{name} holds {wrong}, which is no {message.datatype}")
    return tensor.reshape(shape)


def _check_parameters(name: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    if any(key.startswith("shared_memory") for key in parameters):
        raise InputError(f"{name} is in shared memory, which this server does not read; send bytes")
