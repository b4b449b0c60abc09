"""Bad input over the wire: the right status, a sentence that helps, and a server that serves on."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import torch

from mad.client import request, tensor
from mad.v1 import alerts_pb2, scoring_pb2 as pb, tensor_pb2
from tests.service.running import LIMITS, Running, live, running
from tests.worlds import World

FP32 = tensor_pb2.DATA_TYPE_FP32
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def raw(
    shape: list[int],
    content: bytes = b"",
    *,
    name: str = "x",
    data_type: int = FP32,
) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(name=name, data_type=cast("Any", data_type), shape=shape, data=content)


def score_of(*tensors: tensor_pb2.Tensor) -> pb.ScoreRequest:
    return pb.ScoreRequest(inputs=tensors)


def with_value(value: float) -> pb.ScoreRequest:
    inputs = live(2)["x"]
    inputs[1, 3] = value
    return request({"x": inputs})


BAD_INPUTS = {
    "no inputs": (score_of(), "has no inputs"),
    "wrong name": (request({"y": live(1)["x"]}), r"inputs are \['y'\]; the model takes \['x'\]"),
    "missing": (request({"x": live(1)["x"], "z": live(1)["x"]}), r"the model takes \['x'\]"),
    "twice": (score_of(*[tensor("x", live(1)["x"])] * 2), "'x' is given twice"),
    "too many": (score_of(*(raw([1], name=str(n)) for n in range(65))), "65 inputs; at most 64"),
    "wrong shape": (request({"x": torch.ones(2, 9)}), r"\(2, 9\); expected \(batch, 8\)"),
    "wrong type": (request({"x": live(1)["x"].double()}), "float64; the model takes float32"),
    "NaN": (with_value(math.nan), "'x' holds NaN or infinite numbers, first in row 1"),
    "infinity": (with_value(-math.inf), "'x' holds NaN or infinite numbers, first in row 1"),
    "empty batch": (request({"x": torch.ones(0, 8)}), "'x' is an empty batch"),
    "no axes": (score_of(raw([], bytes(4))), "'x' has 0 axes"),
    "many axes": (score_of(raw([1] * 17, bytes(4))), "'x' has 17 axes"),
    "negative": (score_of(raw([-1, 8], bytes(32))), r"'x' has shape \[-1, 8\]"),
    "overflow": (score_of(raw([2**62, 8], bytes(32))), "each dimension must be from 0 to"),
    "empty overflow": (score_of(raw([0, *[2**31 - 1] * 3])), r"2147483647\]; send a smaller one"),
    "large product": (score_of(raw([2**31 - 1] * 8, bytes(32))), "32 bytes of data; .* needs"),
    "short": (score_of(raw([1, 8], bytes(31))), r"31 bytes of data; shape \[1, 8\] .* needs 32"),
    "long": (score_of(raw([1, 8], bytes(33))), r"33 bytes of data; shape \[1, 8\] .* needs 32"),
    "no type": (score_of(raw([1, 8], bytes(32), data_type=0)), "data_type 0; use one of FP32"),
    "new type": (score_of(raw([1, 8], bytes(32), data_type=99)), "data_type 99; use one of FP32"),
    "long id": (request(live(1), request_id="i" * 129), "129 characters; send at most 128"),
    "odd id": (request(live(1), request_id="a\0b"), "all printable"),
    "odd traffic": (
        request(live(1), options=pb.ScoreOptions(traffic=cast("Any", 7))),
        "traffic is 7; use one of",
    ),
}


@pytest.mark.parametrize(("message", "sentence"), BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
async def test_bad_input_is_refused_with_a_remedy(
    service: Running, message: pb.ScoreRequest, sentence: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.scoring.Score(message)
    assert refused.value.code() is INVALID
    assert "Traceback" not in str(refused.value.details())
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(refused.value.details())
    assert (await service.client.score(live(1))).scores


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (request(live(1), baseline="other"), "baseline 'other' is not loaded here; loaded: tiny@1"),
        (request(live(1), baseline="tiny@2"), "baseline 'tiny@2' is not loaded here"),
        (request(live(1), baseline="../x"), "baseline '../x' is not loaded here"),
        (request(live(1), baseline="tiny@" + "9" * 5000), "loaded: tiny@1"),
        (pb.ScoreRequest(model="gpt"), "model 'gpt' is not watched here"),
        (pb.ScoreRequest(model="g" * 5000), "leave model empty or name 'tiny'"),
    ],
)
async def test_unknown_models_and_baselines_are_not_found(
    service: Running, message: pb.ScoreRequest, sentence: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.scoring.Score(message)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert sentence in str(refused.value.details())


async def test_too_many_inputs_are_refused_once_naming_the_limit(service: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.score(live(LIMITS.max_request_inputs + 1))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "65 inputs; this server takes at most 64" in str(refused.value.details())
    assert service.sample("mad_invalid_inputs_total", model="tiny", reason="too_large") == 1


async def test_a_message_above_the_size_limit_is_refused(service: Running) -> None:
    message = score_of(raw([1, 8], bytes(LIMITS.max_message_bytes + 1)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.scoring.Score(message)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await service.client.score(live(1))).scores


async def test_an_answer_above_the_size_limit_is_refused_once_and_ends_no_stream(
    world: World, tmp_path: Path
) -> None:
    limits = replace(LIMITS, max_message_bytes=4096)
    large, small = request(live(64), request_id="large"), request(live(1), request_id="small")
    async with running(world, tmp_path, limits=limits) as service:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.client.score(large)
        answers = {a.request_id: a async for a in service.client.stream([large, small])}
        assert service.sample("mad_invalid_inputs_total", model="tiny", reason="too_large") == 2
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for text in (refused.value.details(), answers["large"].error.message):
        assert "at most 4096 in one message; ask for less at a time" in str(text)
    assert answers["small"].response.scores


async def test_the_text_of_an_error_fits_the_header_it_travels_in(service: Running) -> None:
    message = score_of(tensor("\N{PILE OF POO}" * 30_000, live(1)["x"]))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.scoring.Score(message)
    assert refused.value.code() is INVALID
    assert len(str(refused.value.details())) <= 500


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (alerts_pb2.ListAlertsRequest(page_size=1001), "page_size is 1001; ask for 0 to 1000"),
        (alerts_pb2.ListAlertsRequest(page_size=-1), "page_size is -1"),
        (alerts_pb2.ListAlertsRequest(page_token=chr(63)), "page token '?' was not given out"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    service: Running, page: alerts_pb2.ListAlertsRequest, sentence: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.alert.ListAlerts(page)
    assert refused.value.code() is INVALID
    assert sentence in str(refused.value.details())


@pytest.mark.parametrize(
    ("count", "max_charges", "sentence"),
    [
        (2, 0, "batch size is 2; explain one input at a time"),
        (1, 1025, "max_charges is 1025; ask for 0 to 1024"),
        (1, -1, "max_charges is -1"),
    ],
)
async def test_what_cannot_be_explained_is_refused(
    service: Running, count: int, max_charges: int, sentence: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.explain(live(count), max_charges=max_charges)
    assert refused.value.code() is INVALID
    assert sentence in str(refused.value.details())


async def test_undecodable_bytes_are_the_callers_mistake(service: Running) -> None:
    call: Any = service.channel.unary_unary("/mad.v1.ScoringService/Score")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"\xff\xff\xff")
    assert refused.value.code() is INVALID
    assert "3 bytes are not the message this method takes" in str(refused.value.details())


async def test_an_unknown_method_is_unimplemented(service: Running) -> None:
    call: Any = service.channel.unary_unary("/mad.v1.ScoringService/Guess")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
