"""The clients: arrays of any library in, messages out, and no torch needed."""

import asyncio
import json
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator
from typing import cast

import grpc
import numpy as np
import pytest
import torch

from mad.client import SERVICE_CONFIG, Client, TensorLike, request, tensor, term
from mad.errors import InputError
from mad.v1 import scoring_pb2 as pb, tensor_pb2, verdict_pb2
from tests.service.running import Running, anomalies, live, until


@pytest.mark.parametrize(
    ("values", "data_type"),
    [
        (np.ones((2, 3), np.float32), tensor_pb2.DATA_TYPE_FP32),
        (np.ones((2, 3), np.float16), tensor_pb2.DATA_TYPE_FP16),
        (np.ones((2, 3), np.float64), tensor_pb2.DATA_TYPE_FP64),
        (np.ones((2, 3), np.int64), tensor_pb2.DATA_TYPE_INT64),
        (np.ones((2, 3), np.int32), tensor_pb2.DATA_TYPE_INT32),
        (np.ones((2, 3), np.uint8), tensor_pb2.DATA_TYPE_UINT8),
        (np.ones((2, 3), np.bool_), tensor_pb2.DATA_TYPE_BOOL),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_numpy_arrays_become_messages(
    values: "np.ndarray[tuple[int, int], np.dtype[np.generic]]", data_type: int
) -> None:
    message = tensor("x", values)
    assert (message.name, message.data_type, list(message.shape)) == ("x", data_type, [2, 3])
    assert message.data == values.tobytes()


def test_a_transposed_array_is_sent_in_row_major_order() -> None:
    values = np.arange(6, dtype=np.int64).reshape(2, 3).T
    assert np.frombuffer(tensor("x", values).data, np.int64).tolist() == [0, 3, 1, 4, 2, 5]


def test_plain_buffers_and_torch_tensors_become_messages() -> None:
    expected = np.array([1, 2], np.float32).tobytes()
    assert tensor("x", array("f", [1, 2])).data == expected
    assert tensor("x", torch.tensor([1.0, 2.0])).data == expected


@pytest.mark.parametrize("values", [np.ones(2, ">f4"), np.ones(2, np.complex64), np.ones(2, "S1")])
def test_an_element_type_the_wire_lacks_is_refused(
    values: "np.ndarray[tuple[int], np.dtype[np.generic]]",
) -> None:
    with pytest.raises(InputError, match=r"input 'x' has elements of type .* to float32"):
        tensor("x", values)


@pytest.mark.parametrize(
    "values",
    [[[1.0, 2.0]], 1.0, np.array(["2026-01-01"], "M8[D]"), torch.ones(2, requires_grad=True)],
    ids=["list", "number", "dates", "with gradients"],
)
def test_what_is_no_array_is_refused_with_a_remedy(values: object) -> None:
    with pytest.raises(InputError, match=r"input 'x' is no array \(.+\); make it one"):
        tensor("x", cast("TensorLike", values))


def test_a_request_without_an_id_gets_one() -> None:
    first, second = request(live(1)), request(live(1))
    assert len({first.request_id, second.request_id, ""}) == 3


async def test_the_sync_client_asks_everything(service: Running) -> None:
    def ask() -> tuple[pb.ScoreResponse, pb.ScoreResponse, list[str], str, list[str]]:
        with Client(service.address) as client:
            answers = client.stream(request(live(1), request_id=name) for name in "abc")
            assert client.explain(anomalies(1), counterfactuals=True).counterfactuals
            return (
                client.score(live(2)),
                client.score(request(anomalies(1), request_id="alarm")),
                sorted(answer.request_id for answer in answers),
                client.explain(live(1)).baseline_revision,
                [alert.request_id for alert in client.alerts().alerts]
                + [baseline.name for baseline in client.baselines().baselines],
            )

    plain, alarming, ids, revision, listed = await asyncio.to_thread(ask)
    assert len(plain.scores) == 2
    assert alarming.scores[0].alert_id
    assert ids == ["a", "b", "c"]
    assert revision == "tiny@1"
    assert listed == ["alarm", "tiny"]


async def test_a_stream_that_is_left_early_is_cancelled(service: Running) -> None:
    async def endless() -> AsyncIterator[pb.ScoreRequest]:
        while True:
            yield request(live(1))
            await asyncio.sleep(0.01)

    answers = service.client.stream(endless())
    await anext(answers)
    await answers.aclose()
    stream = {"grpc_service": "mad.v1.ScoringService", "grpc_method": "ScoreStream"}
    cancelled = {**stream, "grpc_type": "bidi_stream", "grpc_code": "CANCELLED"}
    await until(lambda: service.sample("grpc_server_handled_total", **cancelled) == 1)


async def test_a_ready_channel_is_used_and_left_open(service: Running) -> None:
    def ask() -> int:
        with grpc.insecure_channel(service.address) as channel:
            with Client(channel) as client:
                client.score(live(1))
            return len(Client(channel).score(live(2)).scores)

    assert await asyncio.to_thread(ask) == 2


def test_the_client_imports_neither_torch_nor_numpy() -> None:
    script = "import sys, mad.client; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "[]"


def test_channels_balance_watch_health_and_retry() -> None:
    assert json.loads(json.dumps(SERVICE_CONFIG)) == SERVICE_CONFIG
    assert {"loadBalancingConfig", "healthCheckConfig", "methodConfig"} <= set(SERVICE_CONFIG)


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "set"), (2, "residual"), (3, "neighbours"), (5, "magnitudes"), (99, "99")],
)
def test_terms_have_names_and_those_of_newer_servers_their_number(number: int, name: str) -> None:
    charge = verdict_pb2.Charge()
    charge.ParseFromString(bytes([0x10, number]))  # field 2, a varint: the term
    assert term(charge) == name
