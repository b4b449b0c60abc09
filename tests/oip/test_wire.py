"""What is encoded by hand is what protobuf encodes, or reads as it."""

import struct

from hypothesis import given, strategies as st

from mad.service.oip import inference_pb2 as pb, wire
from mad.service.oip.heads import Heads, Output

NAMES = st.text(max_size=300)
CONTENTS = st.lists(st.binary(max_size=400), max_size=4)
EXTENTS = st.integers(0, 2**31 - 1)


@given(request_id=NAMES, contents=CONTENTS, extent=EXTENTS)
def test_a_response_reads_as_what_went_in(
    request_id: str, contents: list[bytes], extent: int
) -> None:
    outputs = [Output(f"o{n}", "UINT8", (1, extent), each) for n, each in enumerate(contents)]
    heads = Heads("net", "7")
    first, again = (heads.response(request_id, outputs) for _ in range(2))
    assert first == again
    response = pb.ModelInferResponse.FromString(first)
    assert (response.model_name, response.model_version, response.id) == ("net", "7", request_id)
    assert list(response.raw_output_contents) == contents
    assert [(it.name, it.datatype, tuple(it.shape)) for it in response.outputs] == [
        output[:3] for output in outputs
    ]


@given(name=NAMES, text=NAMES, number=st.floats(), truth=st.booleans())
def test_parameters_are_protobufs_own_bytes(
    name: str, text: str, number: float, *, truth: bool
) -> None:
    said, counted, held = (pb.ModelInferResponse() for _ in range(3))
    said.parameters[name].string_param = text
    counted.parameters[name].double_param = number
    held.parameters[name].bool_param = truth
    assert wire.text(name, text) == said.SerializeToString()
    assert wire.real(name, number) == counted.SerializeToString()
    assert wire.truth(name, value=truth) == held.SerializeToString()


def test_numbers_that_are_not_finite_keep_their_bits() -> None:
    for number in (float("inf"), float("-inf"), float("nan")):
        read = pb.ModelInferResponse.FromString(wire.real("n", number)).parameters["n"]
        assert struct.pack("<d", read.double_param) == struct.pack("<d", number)


@given(contents=st.binary(max_size=70_000))
def test_a_streamed_response_is_protobufs_own_bytes(contents: bytes) -> None:
    response = pb.ModelInferResponse(raw_output_contents=[contents])
    answer = pb.ModelStreamInferResponse(infer_response=response)
    assert wire.streamed(wire.raw(contents)) == answer.SerializeToString()
