"""A request that repeats an earlier one reads as protobuf reads it, whatever came before."""

import numpy as np
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import given, settings, strategies as st

from mad.service.oip import inference_pb2 as pb, tensors, wire
from mad.service.oip.forms import Forms, Repeated, Request, parsed

IDS = st.text(max_size=40)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3)
ELEMENTS = st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "FP16"])


def request(
    shape: list[int], datatype: str = "FP32", *, name: str = "x", id_: str = "", fill: int = 0
) -> pb.ModelInferRequest:
    size = int(np.prod(shape)) * tensors.DATATYPES[datatype].dtype.itemsize
    made = pb.ModelInferRequest(model_name="net", model_version="1", id=id_)
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    made.raw_input_contents.append(bytes((fill + place) % 256 for place in range(size)))
    return made


def assert_same(read: Request, content: bytes) -> None:
    wanted = pb.ModelInferRequest.FromString(content)
    assert parsed(read) == wanted
    if isinstance(read, Repeated):
        assert (read.model_name, read.model_version, read.id) == (
            wanted.model_name,
            wanted.model_version,
            wanted.id,
        )
        found, known = read.inputs(), tensors.inputs(wanted)
        assert found.keys() == known.keys()
        for name, tensor in known.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].shape == tensor.shape
            assert found[name].numpy().tobytes() == tensor.numpy().tobytes()


@given(shape=SHAPES, datatype=ELEMENTS, name=st.text(max_size=9), ids=st.lists(IDS, min_size=4))
def test_every_request_reads_as_protobuf_reads_it(
    shape: list[int], datatype: str, name: str, ids: list[str]
) -> None:
    forms = Forms()
    for fill, id_ in enumerate(ids):
        made = request(shape, datatype, name=name, id_=id_, fill=fill)
        content = made.SerializeToString()
        assert_same(forms.read(content), content)


@given(id_=IDS, fill=st.integers(1, 255))
def test_other_numbers_under_another_id_of_the_same_length_are_not_parsed(
    id_: str, fill: int
) -> None:
    forms = Forms()
    forms.read(request([2, 3], id_=id_).SerializeToString())
    other = id_.encode().decode()[::-1]
    again = forms.read(request([2, 3], id_=other, fill=fill).SerializeToString())
    assert isinstance(again, Repeated)


@settings(max_examples=300)
@given(data=st.data(), id_=st.sampled_from(["", "a", "0123456789"]))
def test_damaged_requests_fare_as_with_protobuf(data: st.DataObject, id_: str) -> None:
    content = request([2, 2], id_=id_).SerializeToString()
    forms = Forms()
    forms.read(content)
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[place] = data.draw(st.integers(0, 255))
    try:
        read = forms.read(bytes(damaged))
    except DecodeError:
        with pytest.raises(DecodeError):
            pb.ModelInferRequest.FromString(bytes(damaged))
    else:
        assert_same(read, bytes(damaged))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"".join(parts), id=name)
        for name, parts in {
            "two ids": (wire.field(1, b"net"), wire.field(3, b"a"), wire.field(3, b"b")),
            "an id in a name": (wire.field(1, wire.field(3, b"ab")), wire.field(3, b"ab")),
            "a long head": (wire.field(1, b"net"), wire.field(2, b"v" * 2000)),
            "a field nobody knows": (wire.field(1, b"net"), wire.field(15, b"?")),
        }.items()
    ],
)
def test_odd_heads_read_as_protobuf_reads_them(content: bytes) -> None:
    tensor = pb.ModelInferRequest()
    tensor.inputs.add(name="x", datatype="UINT8", shape=[3])
    forms = Forms()
    for numbers in (b"abc", b"xyz", b"\x1a\x01c"):
        whole = content + tensor.SerializeToString() + wire.field(7, numbers)
        assert_same(forms.read(whole), whole)


@pytest.mark.parametrize("said", ["parameter", "output", "typed", "second input", "empty"])
def test_what_says_more_than_its_elements_is_parsed_each_time(said: str) -> None:
    made = request([1, 2])
    match said:
        case "parameter":
            made.parameters["mad.dry_run"].bool_param = True
        case "output":
            made.outputs.add(name="mad.p_value")
        case "typed":
            del made.raw_input_contents[:]
            made.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
        case "second input":
            made.inputs.add(name="y", datatype="UINT8", shape=[1])
            made.raw_input_contents.append(b"1")
        case _:
            made.inputs[0].shape[0] = 0
            made.raw_input_contents[0] = b""
    forms = Forms()
    content = made.SerializeToString()
    assert all(isinstance(forms.read(content), pb.ModelInferRequest) for _ in range(3))


def test_inputs_can_be_written_to_and_leave_the_request_as_it_is() -> None:
    forms = Forms()
    content = request([1, 3]).SerializeToString()
    forms.read(content)
    read = forms.read(content)
    assert isinstance(read, Repeated)
    read.inputs()["x"].zero_()
    assert not torch.equal(read.inputs()["x"], torch.zeros(1, 3))


def test_the_first_forms_are_forgotten_where_there_are_many() -> None:
    forms = Forms()
    for extent in range(1, 600):
        forms.read(request([extent], "UINT8").SerializeToString())
    first = request([1], "UINT8").SerializeToString()
    assert isinstance(forms.read(first), pb.ModelInferRequest)
