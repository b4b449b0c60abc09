"""Requests of a stream that come together are answered by one run of the model, each by itself."""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import torch
from torch import Tensor, nn

from mad.service.oip import inference_pb2 as pb
from mad.service.oip.forms import Forms, Repeated, alike, joined
from tests.oip.asking import infer, raw, stream
from tests.service.running import Running, anomalies, gated, live, until
from tests.worlds import World


async def known(service: Running, *rows: int) -> None:
    """Have the forms of requests remembered."""
    for count in rows:
        await infer(service.channel, raw(live(count), request_id="0"))


async def together(
    service: Running, world: World, requests: list[pb.ModelInferRequest], *, queued: int
) -> tuple[list[pb.ModelStreamInferResponse], list[int]]:
    """Send requests over a stream while the model is busy; return answers and sizes of its runs."""
    with gated(world) as gate:
        first = asyncio.create_task(infer(service.channel, raw(live(1))))
        await until(lambda: gate.sizes == [1])
        asked = asyncio.create_task(stream(service.channel, requests))
        await until(lambda: service.queued == 1 + queued)
        gate.opened.set()
        await first
        return await asked, gate.sizes


async def test_each_gets_the_bits_it_gets_alone(service: Running, world: World) -> None:
    requests = [raw(live(1 + index % 2, seed=index), request_id=str(index)) for index in range(6)]
    alone = [await infer(service.channel, request) for request in requests]
    answers, sizes = await together(service, world, requests, queued=9)
    assert sum(sizes) == 10
    assert [each.error_message for each in answers] == [""] * 6
    assert [each.infer_response for each in answers] == alone


async def test_alerts_are_of_their_own_requests(service: Running, world: World) -> None:
    await known(service, 1, 2)
    odd = {"x": torch.cat([live(1)["x"], anomalies(1)["x"]])}
    requests = [
        raw(odd if index in {1, 3} else live(2), request_id=f"{index}") for index in range(5)
    ]
    answers, _ = await together(service, world, requests, queued=10)
    told = [each.infer_response.parameters for each in answers]
    assert [parameters["mad.alert"].bool_param for parameters in told] == [
        False,
        True,
        False,
        True,
        False,
    ]
    logged = {alert.alert_id: alert for alert in (await service.client.alerts()).alerts}
    found = [logged[told[index]["mad.alert_ids"].string_param] for index in (1, 3)]
    assert [(alert.request_id, alert.input_index) for alert in found] == [("1", 1), ("3", 1)]
    assert len(logged) == 2
    await infer(service.channel, requests[1])  # a retry, alone, of what came in company
    assert len((await service.client.alerts()).alerts) == 2


async def test_one_that_is_refused_spoils_none(service: Running, world: World) -> None:
    await known(service, 1)
    requests = [raw(live(1, seed=index), request_id=f"{index}") for index in range(5)]
    alone = [await infer(service.channel, request) for request in requests]
    requests[2].raw_input_contents[0] = torch.full((1, 8), math.nan).numpy().tobytes()
    answers, _ = await together(service, world, requests, queued=5)
    assert "NaN" in answers[2].error_message
    assert [each.infer_response.id for each in answers] == ["0", "1", "2", "3", "4"]
    for index in (0, 1, 3, 4):
        assert answers[index].infer_response == alone[index]
    assert service.sample("mad_invalid_inputs_total", model="tiny", reason="input") == 1


@pytest.fixture
def with_loss(world: World) -> Iterator[None]:
    """Make the model return, beside its output, one number for the whole batch."""

    def both(_module: nn.Module, _inputs: object, output: Tensor) -> tuple[Tensor, Tensor]:
        return output, output.mean(0)

    handle = world.model.module.register_forward_hook(both)
    yield
    handle.remove()


@pytest.mark.usefixtures("with_loss")
async def test_what_has_no_batch_axis_is_each_requests_own(service: Running, world: World) -> None:
    requests = [raw(live(2, seed=index), request_id=f"{index}") for index in range(3)]
    alone = [await infer(service.channel, request) for request in requests]
    answers, _ = await together(service, world, requests, queued=6)
    assert [each.infer_response for each in answers] == alone


async def test_what_ends_the_stream_comes_after_the_answers_before_it(service: Running) -> None:
    await known(service, 1)
    bad = raw(live(1), request_id="2")
    bad.raw_input_contents[0] = torch.full((1, 8), math.nan).numpy().tobytes()
    ask: Any = service.channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    requests = [raw(live(1), request_id="0"), raw(live(1), request_id="1"), bad]
    answers = ask(iter(requests), metadata=[("triton_grpc_error", "true")], timeout=60)
    assert [(await answers.read()).infer_response.id for _ in range(2)] == ["0", "1"]
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await answers.read()
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_requests_go_together_as_far_as_they_are_alike() -> None:
    forms = Forms()
    read = [
        raw({"x": torch.full((rows, width), float(index))}, request_id=f"{index}")
        for index, (rows, width) in enumerate([(1, 8), (2, 8), (1, 8), (1, 9), (1, 9), (3, 9)])
    ]
    for request in read:
        forms.read(request.SerializeToString())
    again = [forms.read(request.SerializeToString()) for request in read]
    groups = [[one.id for one in group] for group in alike([*again, read[0]], most=3)]
    assert groups == [["0", "1"], ["2"], ["3", "4"], ["5"], ["0"]]
    first = [one for one in again[:2] if isinstance(one, Repeated)]
    assert joined(first)["x"].tolist() == [[0.0] * 8, [1.0] * 8, [1.0] * 8]
