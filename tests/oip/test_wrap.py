"""Wrap mode over the wire: the model's own outputs bit for bit, and the scores of mad.v1 beside."""

import grpc
import pytest
import torch
from torch import Tensor

from mad.service.oip import inference_pb2 as pb
from tests.oip.asking import ask, infer, output, raw, stream
from tests.service.running import Running, anomalies, live
from tests.worlds import World

SCORES = [
    "mad.surprise_bits",
    "mad.mechanism_bits",
    "mad.novelty_bits",
    "mad.p_value",
    "mad.is_alert",
]


def mixed() -> dict[str, Tensor]:
    return {"x": torch.cat([live(3)["x"], anomalies(2)["x"]])}


async def test_the_servers_state_is_told(service: Running) -> None:
    channel = service.channel
    lives = await ask(channel, "ServerLive", b"", pb.ServerLiveResponse)
    ready = await ask(channel, "ServerReady", b"", pb.ServerReadyResponse)
    assert (lives.live, ready.ready) == (True, True)


@pytest.mark.parametrize(
    ("name", "version", "is_ready"),
    [("tiny", "", True), ("tiny", "1", True), ("tiny", "2", False), ("gpt", "", False)],
)
async def test_a_model_is_ready_by_name_and_version(
    service: Running, name: str, version: str, is_ready: bool
) -> None:
    request = pb.ModelReadyRequest(name=name, version=version)
    assert (await ask(service.channel, "ModelReady", request, pb.ModelReadyResponse)).ready == (
        is_ready
    )


async def test_metadata_names_server_model_and_scores(service: Running) -> None:
    channel = service.channel
    server = await ask(channel, "ServerMetadata", b"", pb.ServerMetadataResponse)
    model = await ask(
        channel, "ModelMetadata", pb.ModelMetadataRequest(name="tiny"), pb.ModelMetadataResponse
    )
    index = await ask(channel, "RepositoryIndex", b"", pb.RepositoryIndexResponse)
    assert (server.name, list(server.extensions)) == ("mad", ["mad_scores"])
    assert (model.name, list(model.versions)) == ("tiny", ["1"])
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [
        ("x", "FP32", [-1, 8])
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in model.outputs] == [
        ("output", "FP32", [-1, 3]),
        *((name, "FP64", [-1]) for name in SCORES[:4]),
        ("mad.is_alert", "BOOL", [-1]),
    ]
    assert [(each.name, each.version, each.state) for each in index.models] == [
        ("tiny", "1", "READY")
    ]


async def test_one_call_has_the_models_own_output_and_the_scores_of_mad_v1(
    service: Running, world: World
) -> None:
    inputs = mixed()
    response = await infer(service.channel, raw(inputs, request_id="mine"))
    scored = await service.client.score(inputs)
    with torch.no_grad():
        own: Tensor = world.model.module(inputs["x"])
    assert [each.name for each in response.outputs] == ["output", *SCORES]
    assert response.raw_output_contents[0] == own.numpy().tobytes()
    assert (response.model_name, response.model_version, response.id) == ("tiny", "1", "mine")
    for name in SCORES:
        field = name.removeprefix("mad.")
        assert output(response, name).tolist() == [
            getattr(score.verdict, field) for score in scored.scores
        ]
    assert output(response, "mad.is_alert").tolist() == [False] * 3 + [True] * 2


async def test_the_parameters_sum_up_and_name_durable_alerts(service: Running) -> None:
    response = await infer(service.channel, raw(mixed(), request_id="mine"))
    parameters = response.parameters
    logged = (await service.client.alerts()).alerts
    assert parameters["mad.alert"].bool_param
    assert parameters["mad.baseline"].string_param == "tiny@1"
    assert parameters["mad.surprise_bits_max"].double_param == max(
        output(response, "mad.surprise_bits")
    )
    assert set(parameters["mad.alert_ids"].string_param.split(",")) == {
        alert.alert_id for alert in logged
    }
    assert {(alert.request_id, alert.input_index) for alert in logged} == {("mine", 3), ("mine", 4)}


async def test_ordinary_inputs_raise_nothing(service: Running) -> None:
    response = await infer(service.channel, raw(live(1)))
    assert not response.parameters["mad.alert"].bool_param
    assert "mad.alert_ids" not in response.parameters


async def test_a_retry_with_the_same_id_raises_no_second_alert(service: Running) -> None:
    request = raw(anomalies(1), request_id="once")
    first, second = [await infer(service.channel, request) for _ in range(2)]
    ids = [each.parameters["mad.alert_ids"].string_param for each in (first, second)]
    assert ids[0]
    assert ids[0] == ids[1]
    assert len((await service.client.alerts()).alerts) == 1


@pytest.mark.parametrize(
    "names", [["mad.p_value"], ["output"], ["mad.is_alert", "output", "mad.surprise_bits"]]
)
async def test_requested_outputs_come_alone_and_in_their_order(
    service: Running, names: list[str]
) -> None:
    response = await infer(service.channel, raw(live(2), *names))
    assert [each.name for each in response.outputs] == names
    assert len(response.raw_output_contents) == len(names)


async def test_typed_contents_mean_the_same_as_raw_ones(service: Running) -> None:
    inputs = live(2)
    typed = raw(inputs)
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.fp32_contents.extend(inputs["x"].flatten().tolist())
    by_type, by_bytes = [await infer(service.channel, each) for each in (typed, raw(inputs))]
    assert list(by_type.raw_output_contents) == list(by_bytes.raw_output_contents)


@pytest.mark.parametrize("baseline", ["tiny", "tiny@1"])
async def test_a_request_may_name_its_baseline(service: Running, baseline: str) -> None:
    response = await infer(service.channel, raw(live(1), baseline=baseline))
    assert response.parameters["mad.baseline"].string_param == "tiny@1"


async def test_a_dry_run_and_trusted_traffic_raise_no_alert(service: Running) -> None:
    dry = await infer(service.channel, raw(anomalies(1), dry_run=True))
    trusted = await infer(service.channel, raw(anomalies(1), traffic="trusted"))
    for response in (dry, trusted):
        assert response.parameters["mad.alert"].bool_param
        assert "mad.alert_ids" not in response.parameters
    assert not (await service.client.alerts()).alerts
    labels = {"model": "tiny", "baseline": "tiny"}
    assert service.sample("mad_inputs_scored_total", **labels, traffic="trusted") == 1
    assert service.sample("mad_inputs_scored_total", **labels, traffic="live") == 1


async def test_live_inputs_are_evidence_of_the_stream(service: Running) -> None:
    await infer(service.channel, raw(live(7)))
    assert (await service.client.evidence()).stream.inputs == 7


async def test_a_stream_is_answered_in_order_whatever_is_ready_first(service: Running) -> None:
    sizes = [1 + (7 * index) % 10 for index in range(24)]
    requests = [
        raw(live(size), "output", request_id=str(index)) for index, size in enumerate(sizes)
    ]
    answers = await stream(service.channel, requests)
    assert {each.error_message for each in answers} == {""}
    assert [each.infer_response.id for each in answers] == [str(index) for index in range(24)]
    assert [list(each.infer_response.outputs[0].shape) for each in answers] == [
        [size, 3] for size in sizes
    ]


async def test_a_bad_request_of_a_stream_gets_its_sentence_and_ends_nothing(
    service: Running,
) -> None:
    bad = raw(live(1), "nope", request_id="bad")
    answers = await stream(service.channel, [bad, raw(live(1), request_id="good")])
    assert "no output 'nope'" in answers[0].error_message
    assert [each.infer_response.id for each in answers] == ["bad", "good"]
    assert not answers[1].error_message


async def test_a_stream_ends_with_a_status_if_it_asks_for_that(service: Running) -> None:
    requests = [raw(live(1)), raw(live(1), "nope")]
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream(service.channel, requests, headers=[("triton_grpc_error", "true")])
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "no output 'nope'" in str(ended.value.details())


async def test_calls_are_counted_under_the_protocols_name(service: Running) -> None:
    await infer(service.channel, raw(live(1)))
    assert (
        service.sample(
            "grpc_server_handled_total",
            grpc_type="unary",
            grpc_service="inference.GRPCInferenceService",
            grpc_method="ModelInfer",
            grpc_code="OK",
        )
        == 1
    )
