"""Every method of every service, called in every role, against a table written here."""

import asyncio
from contextlib import nullcontext, suppress
from functools import partial

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mad.service.auth.methods import METHODS
from mad.service.caller import ROLES
from mad.service.calls import Around, wrapped
from mad.service.errors import refuse
from mad.service.listening.listener import listener
from mad.service.server import SERVICES
from mad.v1 import alerts_pb2, baselines_pb2, calibration_pb2, scoring_pb2, streams_pb2
from tests.service.auth.conftest import bearer, streaming, unary
from tests.service.running import Running

READERS = "score.read fit promote alerts.read"
ALL = "infer score.read score.coarse fit promote alerts.read alerts.ack"
# Who may, beside admin, who may do everything.
MAY = {
    "mad.v1.ScoringService/Score": "score.read score.coarse",
    "mad.v1.ScoringService/ScoreStream": "score.read score.coarse",
    "mad.v1.ScoringService/Explain": "score.read",
    "mad.v1.BaselineService/ListBaselines": READERS,
    "mad.v1.BaselineService/GetBaseline": READERS,
    "mad.v1.BaselineService/FitBaseline": "fit",
    "mad.v1.BaselineService/GetFitJob": "fit",
    "mad.v1.BaselineService/ListFitJobs": "fit",
    "mad.v1.BaselineService/CancelFitJob": "fit",
    "mad.v1.BaselineService/EvaluateBaseline": "promote",
    "mad.v1.BaselineService/PromoteBaseline": "promote",
    "mad.v1.BaselineService/RollbackBaseline": "promote",
    "mad.v1.BaselineService/DeleteBaseline": "promote",
    "mad.v1.AlertService/ListAlerts": "alerts.read",
    "mad.v1.AlertService/GetAlert": "alerts.read",
    "mad.v1.AlertService/WatchAlerts": "alerts.read",
    "mad.v1.AlertService/ListIncidents": "alerts.read",
    "mad.v1.AlertService/AcknowledgeAlert": "alerts.ack",
    "mad.v1.CalibrationService/GetCalibration": READERS,
    "mad.v1.StreamService/GetStream": READERS,
    "mad.v1.StreamService/ResetStream": "alerts.ack",
    "inference.GRPCInferenceService/ServerLive": "infer",
    "inference.GRPCInferenceService/ServerReady": "infer",
    "inference.GRPCInferenceService/ServerMetadata": "infer",
    "inference.GRPCInferenceService/ModelReady": "infer",
    "inference.GRPCInferenceService/ModelMetadata": "infer",
    "inference.GRPCInferenceService/ModelInfer": "infer",
    "inference.GRPCInferenceService/ModelStreamInfer": "infer",
    "inference.GRPCInferenceService/RepositoryIndex": "infer",
    "envoy.service.ext_proc.v3.ExternalProcessor/Process": "score.read",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ALL,
}
OPEN = {"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", "grpc.health.v1.Health/List"}
FILES = (scoring_pb2, baselines_pb2, alerts_pb2, calibration_pb2, streams_pb2)
# No message of ours: a call that is let in fails when it is read, and changes nothing.
GARBAGE = b"\xff\xff\xff"
REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
WITHOUT_A_ROW = "mad.v1.SecretService/Steal"


def methods() -> list[str]:
    services: list[ServiceDescriptor] = [
        service
        for file in (*FILES, health_pb2, reflection_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    ours = [f"{one.full_name}/{method.name}" for one in services for method in one.methods]
    return ours + [method for method in MAY if method.startswith(("inference.", "envoy."))]


SERVED = [
    method
    for method in methods()
    if not method.startswith("mad.") or method.rpartition("/")[0] in SERVICES
]


async def outcome(service: Running, method: str, metadata: tuple[tuple[str, str], ...]) -> str:
    """Call a method with garbage, and return what it came to."""
    call = streaming(service.channel, f"/{method}")(metadata=metadata)
    async with asyncio.timeout(30):
        # A refusal may come before all is sent; from an iterator gRPC would then cancel the call.
        with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            await call.write(GARBAGE)
            await call.done_writing()
        code = await call.code()
    return code.name if code in REFUSALS else "allowed"


def test_the_table_has_every_method() -> None:
    assert set(methods()) == {*MAY, *OPEN}
    newer_reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    assert set(METHODS) == {f"/{method}" for method in (*MAY, *OPEN, newer_reflection)}


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_a_role_may_do_what_the_table_says_and_nothing_else(
    guarded: Running, role: str
) -> None:
    found = {method: await outcome(guarded, method, bearer(role)) for method in SERVED}
    assert found == {
        method: "allowed"
        if method in OPEN or role == "admin" or role in MAY[method].split()
        else "PERMISSION_DENIED"
        for method in SERVED
    }


async def test_a_caller_without_a_token_may_ask_for_health_alone(guarded: Running) -> None:
    found = {method: await outcome(guarded, method, ()) for method in SERVED}
    assert found == {
        method: "allowed" if method in OPEN else "UNAUTHENTICATED" for method in SERVED
    }


async def test_a_server_that_asks_nobody_lets_everybody_do_everything(service: Running) -> None:
    found = {await outcome(service, method, ()) for method in SERVED}
    assert found == {"allowed"}


async def steal(_request: object, _context: object) -> bytes:
    return b"everything"


@pytest.mark.parametrize("role", [*sorted(ROLES), ""])
async def test_a_method_without_a_row_is_denied_to_everybody(guarded: Running, role: str) -> None:
    metrics = guarded.server.metrics
    around = Around(
        metrics=metrics,
        admit=guarded.server.guard.admit,
        hold=lambda _: nullcontext(),
        refuse=partial(refuse, metrics=metrics),
    )
    wrap = partial(wrapped, around=around, max_message_bytes=1000)
    server = listener(wrap=wrap, options=())
    name, _, method = WITHOUT_A_ROW.rpartition("/")
    handler = grpc.unary_unary_rpc_method_handler(
        steal, request_deserializer=bytes, response_serializer=bytes
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    metadata = bearer(role) if role else ()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = unary(channel, f"/{WITHOUT_A_ROW}")(b"", metadata=metadata)
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
    await server.stop(0)
    assert f"/{WITHOUT_A_ROW}" not in METHODS


async def test_every_service_that_the_server_lists_is_in_the_table(service: Running) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = [one async for one in stub.ServerReflectionInfo(iter([asked]))]
    listed = {one.name for one in answer.list_services_response.service}
    assert listed <= {method.rpartition("/")[0] for method in (*MAY, *OPEN)}
