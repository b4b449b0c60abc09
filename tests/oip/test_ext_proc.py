"""Envoy's external processing: what is told of a request, what is refused, and what passes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mad.service.oip.ext_proc import ext_proc_pb2 as pb
from mad.service.oip.ext_proc.servicer import INFER, SERVICE
from mad.service.oip.serving import InferencePlan
from tests.oip.asking import raw
from tests.oip.peer import needs_peers, run
from tests.service.running import Running, anomalies, live, running
from tests.worlds import World

TELL, BLOCK = InferencePlan(reaction="tell"), InferencePlan(reaction="block")
ENUM, INTEGER = 14, 13


def framed(content: bytes, *, flag: int = 0) -> bytes:
    """Return a message as gRPC sends it."""
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


def headers(path: str) -> pb.ProcessingRequest:
    sent = pb.HeaderMap(headers=[pb.HeaderValue(key=":path", raw_value=path.encode())])
    return pb.ProcessingRequest(request_headers=pb.HttpHeaders(headers=sent))


def body(content: bytes) -> pb.ProcessingRequest:
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=content, end_of_stream=True))


async def processed(
    service: Running, parts: Iterable[pb.ProcessingRequest]
) -> list[pb.ProcessingResponse]:
    """Send the parts of one request as Envoy does, and return what is answered."""
    call: Any = service.channel.stream_stream(
        f"/{SERVICE}/Process",
        request_serializer=pb.ProcessingRequest.SerializeToString,
        response_deserializer=pb.ProcessingResponse.FromString,
    )
    return [answer async for answer in call(iter(parts), timeout=30)]


async def told(service: Running, content: bytes) -> dict[str, str]:
    """Return the headers that a body of an inference gets."""
    _, answer = await processed(service, [headers(INFER), body(content)])
    assert answer.WhichOneof("response") == "request_body"
    mutation = answer.request_body.response.header_mutation
    return {one.header.key: one.header.raw_value.decode() for one in mutation.set_headers}


async def test_ordinary_requests_and_anomalies_are_told_apart(world: World, tmp_path: Path) -> None:
    async with running(world, tmp_path, inference=TELL) as service:
        (score,) = (await service.client.score(live(1))).scores
        ordinary = await told(service, framed(raw(live(1)).SerializeToString()))
        strange = await told(service, framed(raw(anomalies(2)).SerializeToString()))
        alerts = (await service.client.alerts()).alerts
    assert ordinary == {
        "x-mad-alert": "false",
        "x-mad-surprise-bits": f"{score.verdict.surprise_bits:.3f}",
        "x-mad-baseline": "tiny@1",
    }
    assert strange["x-mad-alert"] == "true"
    assert [alert.input_index for alert in alerts] == [1, 0]


async def test_what_raises_an_alert_is_refused_and_nothing_else(
    world: World, tmp_path: Path
) -> None:
    async with running(world, tmp_path, inference=BLOCK) as service:
        ordinary = await told(service, framed(raw(live(1)).SerializeToString()))
        parts = [headers(INFER), body(framed(raw(anomalies(1)).SerializeToString()))]
        _, refused = await processed(service, parts)
        (alert,) = (await service.client.alerts()).alerts
    assert ordinary["x-mad-alert"] == "false"
    answer = refused.immediate_response
    assert (answer.status.code, answer.grpc_status.status, answer.details) == (403, 7, "mad_alert")
    assert answer.body.decode() == f"the request is refused; alert {alert.alert_id}"


async def test_callers_cannot_talk_their_way_out(world: World, tmp_path: Path) -> None:
    async with running(world, tmp_path, inference=BLOCK) as service:
        for evasion in ({"dry_run": True}, {"traffic": "canary"}, {"baseline": "none@9"}):
            request = raw(anomalies(1), **evasion)
            parts = [headers(INFER), body(framed(request.SerializeToString()))]
            _, refused = await processed(service, parts)
            assert refused.WhichOneof("response") == "immediate_response"


GOOD = raw(live(1)).SerializeToString()
UNREADABLE = {
    "no frame": b"abc",
    "cut short": framed(GOOD)[:-1],
    "two messages": framed(GOOD) * 2,
    "compressed": framed(GOOD, flag=1),
    "another message": framed(b"\xff\xff\xff"),
    "another input": framed(raw({"y": live(1)["x"]}).SerializeToString()),
    "not a number": framed(raw({"x": live(1)["x"] / 0}).SerializeToString()),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_what_cannot_be_scored_passes_and_is_counted(
    world: World, tmp_path: Path, content: bytes
) -> None:
    async with running(world, tmp_path, inference=BLOCK) as service:
        assert await told(service, content) == {"x-mad-alert": "unscored"}
        name = "mad_unscored_inputs_total"
        assert service.sample(name, model="tiny", reason="refused") == 1


async def test_other_requests_and_parts_pass(world: World, tmp_path: Path) -> None:
    parts = [
        headers("/inference.GRPCInferenceService/ServerLive"),
        body(framed(raw(anomalies(1)).SerializeToString())),
        pb.ProcessingRequest(request_trailers=pb.HttpTrailers()),
        pb.ProcessingRequest(response_headers=pb.HttpHeaders()),
        pb.ProcessingRequest(),
    ]
    async with running(world, tmp_path, inference=BLOCK) as service:
        answers = await processed(service, parts)
        assert not (await service.client.alerts()).alerts
    kinds = [answer.WhichOneof("response") for answer in answers]
    assert kinds == [
        "request_headers",
        "request_body",
        "request_trailers",
        "response_headers",
        None,
    ]
    assert all(not one.request_body.response.header_mutation.set_headers for one in answers)


async def test_a_request_that_is_only_observed_is_scored_and_not_answered(
    world: World, tmp_path: Path
) -> None:
    parts = [headers(INFER), body(framed(raw(anomalies(1)).SerializeToString()))]
    for part in parts:
        part.observability_mode = True
    async with running(world, tmp_path, inference=BLOCK) as service:
        assert await processed(service, parts) == []
        assert len((await service.client.alerts()).alerts) == 1


@needs_peers
def test_every_field_is_the_one_envoy_has() -> None:
    theirs = json.loads(run("describe_envoy"))
    own = {
        f"{name}.{field.name}": [field.number, field.type, field.is_repeated]
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
        for field in message.fields
    }
    # On the wire an enumeration is the number that it stands for.
    assert theirs["HttpStatus.code"] == [1, ENUM, False]
    assert own.pop("HttpStatus.code") == [1, INTEGER, False]
    assert own == {name: theirs[name] for name in own}
    assert len(own) == 36
