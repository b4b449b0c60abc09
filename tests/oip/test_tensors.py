"""Every element type goes through the protocol and back unchanged, raw and typed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from mad.service.oip import inference_pb2 as pb
from mad.service.oip.heads import Heads
from mad.service.oip.tensors import DATATYPES, inputs, written

NUMBERS = {
    "BOOL": (torch.bool, "bool_contents", st.booleans()),
    "INT8": (torch.int8, "int_contents", st.integers(-(2**7), 2**7 - 1)),
    "INT16": (torch.int16, "int_contents", st.integers(-(2**15), 2**15 - 1)),
    "INT32": (torch.int32, "int_contents", st.integers(-(2**31), 2**31 - 1)),
    "INT64": (torch.int64, "int64_contents", st.integers(-(2**63), 2**63 - 1)),
    "UINT8": (torch.uint8, "uint_contents", st.integers(0, 2**8 - 1)),
    "UINT16": (torch.uint16, "uint_contents", st.integers(0, 2**16 - 1)),
    "UINT32": (torch.uint32, "uint_contents", st.integers(0, 2**32 - 1)),
    "UINT64": (torch.uint64, "uint64_contents", st.integers(0, 2**64 - 1)),
    "FP16": (torch.float16, "", st.floats(width=16, allow_nan=False)),
    "BF16": (torch.bfloat16, "", st.sampled_from([0.0, -1.5, 2.0**100, math.inf])),
    "FP32": (torch.float32, "fp32_contents", st.floats(width=32, allow_nan=False)),
    "FP64": (torch.float64, "fp64_contents", st.floats(allow_nan=False)),
}
"""Datatype: ours, the field of typed contents, and what may stand there."""

TYPED = [name for name, (_, field, _) in NUMBERS.items() if field]


@st.composite
def tensors(draw: st.DrawFn, datatype: str) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    dtype, _, numbers = NUMBERS[datatype]
    count = math.prod(shape)
    values = draw(st.lists(numbers, min_size=count, max_size=count))
    return torch.tensor(values, dtype=dtype).reshape(shape)


def bits(tensor: torch.Tensor) -> NDArray[np.uint8]:
    return tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)


def test_every_datatype_is_tried() -> None:
    assert set(NUMBERS) == set(DATATYPES)


@pytest.mark.parametrize("datatype", NUMBERS)
@given(data=st.data())
def test_raw_elements_come_back_bit_for_bit(datatype: str, data: st.DataObject) -> None:
    tensor = data.draw(tensors(datatype))
    content = Heads("net", "1").response("", [written("it", tensor)])
    response = pb.ModelInferResponse.FromString(content)
    request = pb.ModelInferRequest(raw_input_contents=response.raw_output_contents)
    (output,) = response.outputs
    request.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    read = inputs(request)["it"]
    assert (output.datatype, read.dtype, read.shape) == (datatype, tensor.dtype, tensor.shape)
    assert np.array_equal(bits(read), bits(tensor))


@pytest.mark.parametrize("datatype", TYPED)
@given(data=st.data())
def test_typed_elements_are_the_numbers_sent(datatype: str, data: st.DataObject) -> None:
    tensor = data.draw(tensors(datatype))
    request = pb.ModelInferRequest()
    sent = request.inputs.add(name="it", datatype=datatype, shape=tensor.shape)
    getattr(sent.contents, NUMBERS[datatype][1]).extend(tensor.reshape(-1).tolist())
    read = inputs(request)["it"]
    assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
    assert np.array_equal(bits(read), bits(tensor))


def test_raw_elements_are_little_endian_and_row_major() -> None:
    output = written("it", torch.tensor([[1, 2], [3, 256]], dtype=torch.int16).T)
    assert output.content == b"\1\0\3\0\2\0\0\1"
