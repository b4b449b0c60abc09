"""Proxy mode: the upstream server's answer as it is, with scores beside it, or its error."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from torch import Tensor

from mad.errors import ConfigError
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.serving import InferencePlan
from mad.service.oip.upstream import UpstreamPlan
from tests.oip.asking import ask, infer, output, raw, stream
from tests.oip.upstreams import Other, serving
from tests.service.running import Running, anomalies, live, running, until
from tests.worlds import World

SCORES = [
    "mad.surprise_bits",
    "mad.mechanism_bits",
    "mad.novelty_bits",
    "mad.p_value",
    "mad.is_alert",
]
ACTIVATIONS = {"1": "layer_one", "3": "layer_three"}


@pytest.fixture
async def other() -> AsyncIterator[Other]:
    async with serving(Other()) as other:
        yield other


def plan(other: Other, **changes: Any) -> InferencePlan:
    upstream = replace(UpstreamPlan(address=other.address, poll_s=0.05, patience_s=20), **changes)
    return InferencePlan(mode="proxy", model="net", upstream=upstream)


@pytest.fixture
async def copying(world: World, other: Other, tmp_path: Path) -> AsyncIterator[Running]:
    """A proxy that scores with a copy of the model."""
    async with running(world, tmp_path, inference=plan(other, outputs=("logits",))) as service:
        yield service


@pytest.fixture
async def reading(world: World, other: Other, tmp_path: Path) -> AsyncIterator[Running]:
    """A proxy that scores the activations that the upstream server returns."""
    wanted = plan(other, outputs=("logits",), activations=ACTIVATIONS)
    async with running(world, tmp_path, inference=wanted) as service:
        yield service


@pytest.fixture(params=["copying", "reading"])
def proxy(request: pytest.FixtureRequest) -> Running:
    """Either."""
    service: Running = request.getfixturevalue(request.param)
    return service


def mixed() -> dict[str, Tensor]:
    return {"x": torch.cat([live(3)["x"], anomalies(2)["x"]])}


async def direct(other: Other, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    async with grpc.aio.insecure_channel(other.address) as channel:
        return await infer(channel, request)


async def test_the_answer_is_the_upstream_servers_and_the_scores_are_ours(
    proxy: Running, other: Other, world: World
) -> None:
    inputs = mixed()
    response = await infer(proxy.channel, raw(inputs, model="net", request_id="mine"))
    theirs = await direct(other, raw(inputs, "logits", model="net", request_id="mine"))
    expected = world.monitor.judge(inputs).verdicts
    assert [each.name for each in response.outputs] == ["logits", *SCORES]
    assert response.outputs[0] == theirs.outputs[0]
    assert response.raw_output_contents[0] == theirs.raw_output_contents[0]
    assert (response.model_name, response.model_version, response.id) == ("net", "3", "mine")
    assert response.parameters["theirs"].int64_param == 5
    assert output(response, "mad.surprise_bits") == pytest.approx(
        [verdict.surprise_bits for verdict in expected], rel=1e-4
    )
    assert output(response, "mad.is_alert").tolist() == [False] * 3 + [True] * 2
    assert {alert.request_id for alert in (await proxy.client.alerts()).alerts} == {"mine"}


async def test_the_upstream_server_sees_nothing_of_ours(proxy: Running, other: Other) -> None:
    request = raw(live(1), "mad.p_value", "logits", model="net", baseline="tiny", dry_run=True)
    request.parameters["theirs"].bool_param = True
    headers = (("authorization", "Bearer x"), ("traceparent", "00-a-b-01"))
    call: Any = proxy.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    response = await call(request, metadata=headers)
    (seen,) = other.asked
    assert [each.name for each in response.outputs] == ["logits", "mad.p_value"]
    assert list(seen.parameters) == ["theirs"]
    assert not [each.name for each in seen.outputs if each.name.startswith("mad.")]
    assert "authorization" not in other.headers[0]
    assert other.headers[0]["traceparent"] == "00-a-b-01"


@pytest.mark.parametrize(
    "names", [["mad.p_value"], ["logits"], ["layer_one"], ["mad.is_alert", "layer_three"]]
)
async def test_the_caller_gets_what_it_asks_for_and_no_more(
    proxy: Running, names: list[str]
) -> None:
    response = await infer(proxy.channel, raw(live(2), *names, model="net"))
    assert sorted(each.name for each in response.outputs) == sorted(names)
    assert len(response.raw_output_contents) == len(names)
    assert response.parameters["mad.baseline"].string_param == "tiny@1"


async def test_an_answer_with_typed_contents_gets_typed_scores(
    proxy: Running, other: Other
) -> None:
    other.is_typed = True
    response = await infer(proxy.channel, raw(anomalies(2), model="net"))
    assert not response.raw_output_contents
    by_name = {each.name: each.contents for each in response.outputs}
    assert len(by_name["logits"].fp32_contents) == 6
    assert list(by_name["mad.is_alert"].bool_contents) == [True, True]
    assert len(by_name["mad.p_value"].fp64_contents) == 2


async def test_metadata_is_the_upstream_servers_with_the_scores(proxy: Running) -> None:
    request = pb.ModelMetadataRequest(name="net")
    model = await ask(proxy.channel, "ModelMetadata", request, pb.ModelMetadataResponse)
    assert (model.platform, list(model.versions)) == ("theirs", ["3"])
    assert [each.name for each in model.outputs] == [
        *("logits", "layer_one", "layer_three"),
        *SCORES,
    ]


async def test_a_stream_is_answered_in_order(proxy: Running) -> None:
    requests = [raw(live(1), model="net", request_id=str(index)) for index in range(30)]
    answers = await stream(proxy.channel, requests)
    assert [each.infer_response.id for each in answers] == [str(index) for index in range(30)]
    assert all(len(each.infer_response.outputs) == 6 for each in answers)


async def test_what_a_caller_asks_of_us_and_cannot_have_is_refused(
    proxy: Running, other: Other
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(proxy.channel, raw(live(1), model="net", baseline="x@9"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert not other.asked


async def full(context: Any) -> None:
    await context.abort(grpc.StatusCode.DATA_LOSS, "its disk is full", (("x-their", "own"),))


async def test_an_upstream_error_is_passed_on_with_its_status(proxy: Running, other: Other) -> None:
    other.fail = full
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await infer(proxy.channel, raw(live(1), model="net"))
    assert (failed.value.code(), failed.value.details()) == (
        grpc.StatusCode.DATA_LOSS,
        "its disk is full",
    )
    (answer,) = await stream(proxy.channel, [raw(live(1), model="net", request_id="bad")])
    assert (answer.error_message, answer.infer_response.id) == ("its disk is full", "bad")
    headers = [("triton_grpc_error", "true")]
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream(proxy.channel, [raw(live(1), model="net")], headers=headers)
    assert ended.value.code() is grpc.StatusCode.DATA_LOSS


async def test_a_deadline_reaches_the_upstream_server(proxy: Running, other: Other) -> None:
    other.delay_s = 30
    call: Any = proxy.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await call(raw(live(1), model="net").SerializeToString(), timeout=0.3)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: other.cancelled == 1)


async def test_a_caller_that_leaves_is_gone_upstream_too(proxy: Running, other: Other) -> None:
    other.delay_s = 30
    calling = asyncio.create_task(infer(proxy.channel, raw(live(1), model="net")))
    await until(lambda: len(other.asked) == 1)
    calling.cancel()
    await until(lambda: other.cancelled == 1)


async def test_the_upstream_server_has_its_own_limit(
    world: World, other: Other, tmp_path: Path
) -> None:
    other.delay_s = 30
    async with running(world, tmp_path, inference=plan(other, timeout_s=0.2)) as service:
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await infer(service.channel, raw(live(1), model="net"))
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_activations_are_of_the_dictionaries_sites(world: World, tmp_path: Path) -> None:
    wanted = plan(Other(address="127.0.0.1:1"), activations={"1": "layer_one"})
    with pytest.raises(ConfigError, match=r"names the sites \['1'\].*are of \['1', '3'\]"):
        asyncio.run(_build(world, tmp_path, wanted))


async def _build(world: World, directory: Path, inference: InferencePlan) -> None:
    async with running(world, directory, inference=inference):
        raise AssertionError("it started")
