"""Bad input over the protocol: the right status, a sentence that helps, a server that serves on."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings, strategies as st

from mad.service.oip import inference_pb2 as pb
from tests.oip.asking import infer, raw, stream
from tests.service.running import LIMITS, Running, anomalies, live, running
from tests.service.test_fuzz import ODD, mutated
from tests.worlds import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

Change = Callable[[pb.ModelInferRequest], object]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One server for all: it must serve on whatever it was sent."""
    async with running(world, Path(tmp_path_factory.mktemp("server"))) as service:
        yield service


def shaped(*shape: int, datatype: str = "FP32", content: bytes = b"") -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        request.inputs[0].shape[:] = shape
        request.inputs[0].datatype = datatype
        request.raw_input_contents[0] = content

    return change


def typed(datatype: str, **contents: Sequence[float]) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        del request.raw_input_contents[:]
        request.inputs[0].datatype = datatype
        for field, values in contents.items():
            getattr(request.inputs[0].contents, field).extend(values)

    return change


def with_parameter(key: str, **value: object) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        for field, given_value in value.items():
            setattr(request.parameters[key], field, given_value)

    return change


def again(request: pb.ModelInferRequest) -> None:
    request.inputs.add().CopyFrom(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])


def in_shared_memory(request: pb.ModelInferRequest) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "mine"


def classified(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="output").parameters["classification"].int64_param = 2


def empty_overflow_by_type(request: pb.ModelInferRequest) -> None:
    typed("FP32")(request)
    request.inputs[0].shape[:] = [0, *[2**31 - 1] * 3]


def many(request: pb.ModelInferRequest) -> None:
    for number in range(64):
        request.inputs.add(name=str(number))


BAD: dict[str, tuple[Change, str]] = {
    "no inputs": (lambda it: it.ClearField("inputs"), "has 0 inputs; send 1 to 64"),
    "too many": (many, "has 65 inputs; send 1 to 64"),
    "twice": (again, "'x' is given twice"),
    "unknown input": (
        lambda it: setattr(it.inputs[0], "name", "y"),
        "inputs are ['y']; the model takes ['x']",
    ),
    "unknown output": (lambda it: it.outputs.add(name="nope"), "the model has no output 'nope'"),
    "raw missing": (
        lambda it: it.raw_input_contents.append(b""),
        "1 inputs and 2 raw_input_contents; send one for each",
    ),
    "both": (
        lambda it: it.inputs[0].contents.fp32_contents.append(1),
        "'x' has contents beside raw_input_contents; send one of the two",
    ),
    "text": (shaped(1, 8, datatype="BYTES"), "turn text and images into numbers first"),
    "unknown type": (shaped(1, 8, datatype="FP8"), "datatype 'FP8'; use one of BOOL, INT8"),
    "no type": (shaped(1, 8, datatype=""), "datatype ''; use one of BOOL"),
    "long type": (shaped(1, 8, datatype="F" * 9999), "use one of BOOL"),
    "wrong type": (shaped(1, 8, datatype="FP64", content=bytes(64)), "float64; the model takes"),
    "short": (shaped(1, 8, content=bytes(31)), "31 raw bytes; shape [1, 8] of FP32 needs 32"),
    "long": (shaped(1, 8, content=bytes(33)), "33 raw bytes; shape [1, 8] of FP32 needs 32"),
    "no axes": (shaped(content=bytes(4)), "'x' has 0 axes; send 1 to 16"),
    "many axes": (shaped(*[1] * 17, content=bytes(4)), "'x' has 17 axes"),
    "negative": (shaped(-1, 8, content=bytes(32)), "must be from 0 to 2147483647"),
    "huge and negative": (shaped(2**62, -1), "must be from 0 to 2147483647"),
    "empty overflow": (shaped(0, *[2**31 - 1] * 3), "send a smaller one"),
    "empty overflow by type": (empty_overflow_by_type, "send a smaller one"),
    "large product": (shaped(*[2**31 - 1] * 2, content=bytes(32)), "32 raw bytes; shape"),
    "empty batch": (shaped(0, 8), "'x' is an empty batch"),
    "NaN": (shaped(1, 8, content=bytes(28) + b"\0\0\xc0\x7f"), "NaN or infinite numbers"),
    "half by type": (typed("FP16", fp32_contents=[0.0] * 8), "FP16, which has no typed contents"),
    "wrong field": (typed("FP32", fp64_contents=[0.0] * 8), "elements in fp64_contents; send them"),
    "two fields": (
        typed("FP32", fp32_contents=[0.0] * 8, int_contents=[1]),
        "elements in int_contents and fp32_contents; send them in fp32_contents alone",
    ),
    "few elements": (typed("FP32", fp32_contents=[0.0] * 7), "7 elements; shape [1, 8] needs 8"),
    "no elements": (typed("FP32"), "0 elements; shape [1, 8] needs 8"),
    "too large a number": (typed("INT8", int_contents=[0] * 7 + [128]), "128, which is no INT8"),
    "shared memory": (in_shared_memory, "in shared memory, which this server does not read"),
    "classification": (classified, "'output' has parameters ['classification']"),
    "sequence": (with_parameter("sequence_id", int64_param=3), "keeps no state"),
    "our parameter, misspelt": (
        with_parameter("mad.base", string_param="x"),
        "'mad.base' is not known; there is mad.baseline, mad.traffic, mad.dry_run",
    ),
    "our parameter, empty": (with_parameter("mad.baseline"), "mad.baseline is empty; send a"),
    "our parameter, of another kind": (
        with_parameter("mad.dry_run", string_param="yes"),
        "mad.dry_run is string_param; send a bool_param",
    ),
    "odd traffic": (
        with_parameter("mad.traffic", string_param="odd"),
        "mad.traffic is 'odd'; use one of live, trusted, canary",
    ),
    "long id": (lambda it: setattr(it, "id", "i" * 129), "129 characters; send at most 128"),
}


@pytest.mark.parametrize(("change", "sentence"), BAD.values(), ids=BAD.keys())
async def test_bad_input_is_refused_with_a_remedy(
    service: Running, change: Change, sentence: str
) -> None:
    request = raw(live(1))
    if sentence.startswith("mad.baseline is empty"):
        request.parameters["mad.baseline"].SetInParent()
    change(request)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(service.channel, request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in str(refused.value.details())
    assert (await infer(service.channel, raw(live(1)))).outputs


async def test_other_servers_parameters_are_left_alone(service: Running) -> None:
    request = raw(live(1))
    request.parameters["priority"].uint64_param = 3
    request.parameters["timeout"].int64_param = 1_000
    assert (await infer(service.channel, request)).outputs


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda it: setattr(it, "model_name", "gpt"), "model 'gpt', version '', is not served"),
        (lambda it: setattr(it, "model_name", ""), "this server has 'tiny', version '1'"),
        (lambda it: setattr(it, "model_version", "2"), "model 'tiny', version '2', is not served"),
        (with_parameter("mad.baseline", string_param="x@9"), "baseline 'x@9' is not loaded here"),
    ],
)
async def test_unknown_models_versions_and_baselines_are_not_found(
    service: Running, change: Change, sentence: str
) -> None:
    request = raw(live(1))
    change(request)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(service.channel, request)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert sentence in str(refused.value.details())


async def test_too_many_inputs_are_refused_naming_the_limit(service: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(service.channel, raw(live(LIMITS.max_request_inputs + 1)))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_neighbours_of_a_poisoned_request_get_the_bits_they_get_alone(
    service: Running,
) -> None:
    good, poisoned = raw(live(3)), raw(live(3))
    numbers = live(3)["x"]
    numbers[1, 1] = math.inf
    poisoned.raw_input_contents[0] = numbers.numpy().tobytes()
    alone = await infer(service.channel, good)
    answers = await stream(service.channel, [good, poisoned, good])
    assert [bool(each.error_message) for each in answers] == [False, True, False]
    for answer in (answers[0], answers[2]):
        assert list(answer.infer_response.raw_output_contents) == list(alone.raw_output_contents)


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
REQUEST = raw(
    anomalies(2), "output", "mad.p_value", request_id="fuzz", baseline="tiny", dry_run=True
).SerializeToString()


async def status(service: Running, content: bytes) -> grpc.StatusCode:
    try:
        await infer(service.channel, content)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@FUZZ
@given(content=mutated(REQUEST))
async def test_a_mutated_request_has_a_meaningful_answer(service: Running, content: bytes) -> None:
    assert await status(service, content) not in ODD


@FUZZ
@given(content=st.binary(max_size=200))
async def test_arbitrary_bytes_have_a_meaningful_answer(service: Running, content: bytes) -> None:
    assert await status(service, content) not in ODD


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ModelMetadata"])
async def test_what_is_no_message_is_refused_as_such(service: Running, method: str) -> None:
    call: Any = service.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"\xff\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not the message this method takes" in str(refused.value.details())


@pytest.mark.parametrize("method", ["ModelConfig", "RepositoryModelLoad", "TraceSetting"])
async def test_what_else_triton_has_is_unimplemented(service: Running, method: str) -> None:
    call: Any = service.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
