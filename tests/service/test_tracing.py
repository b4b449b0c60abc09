"""Traces: a span a call, one a stage, below the caller's own; and none when nobody asks."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from mad.client import AsyncClient, request
from mad.service.tracing import Tracing
from mad.v1.scoring_pb2 import ScoreRequest
from tests.service.running import anomalies, build, live
from tests.worlds import World

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["queue", "forward", "components", "codes", "calibration", "explanations"]


@asynccontextmanager
async def traced(world: World, folder: Path, tracing: Tracing) -> AsyncIterator[AsyncClient]:
    server = build(world, folder, collectors=CollectorRegistry())
    server.tracing = tracing
    address = f"127.0.0.1:{await server.start()}"
    try:
        async with AsyncClient(address) as client:
            yield client
    finally:
        await server.drain(lame_duck_s=0, grace_s=1)


async def spans_of(
    world: World, folder: Path, asked: ScoreRequest
) -> dict[str, list[ReadableSpan]]:
    """Ask for scores under a traceparent; return the spans of each name."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    async with traced(world, folder, Tracing(provider)) as client:
        parent = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
        await client.scoring.Score(asked, metadata=parent).code()
    named: dict[str, list[ReadableSpan]] = {}
    for span in memory.get_finished_spans():
        named.setdefault(span.name, []).append(span)
    return named


async def test_a_call_and_its_stages_are_spans_below_the_callers(
    world: World, tmp_path: Path
) -> None:
    named = await spans_of(world, tmp_path, request(anomalies(1), request_id="r-1"))
    (rpc,) = named.pop("mad.v1.ScoringService/Score")
    assert rpc.parent is not None
    assert rpc.context is not None
    assert (f"{rpc.parent.trace_id:032x}", f"{rpc.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(rpc.attributes or {})["rpc.grpc.status"] == "OK"
    assert set(named) == {*STAGES, "persist"}
    last = rpc.start_time or 0
    for name in [*STAGES, "persist"]:
        (span,) = named[name]
        assert span.parent is not None
        assert span.parent.span_id == rpc.context.span_id
        assert dict(span.attributes or {}) == {"mad.request_id": "r-1"}
        assert last <= (span.start_time or 0) <= (span.end_time or 0)
        last = span.end_time or 0
    assert last <= (rpc.end_time or 0)


async def test_a_refused_call_has_its_status_and_nothing_of_its_input(
    world: World, tmp_path: Path
) -> None:
    named = await spans_of(world, tmp_path, request({"secret": live(1)["x"]}))
    (rpc,) = named.pop("mad.v1.ScoringService/Score")
    assert not named
    assert not rpc.status.is_ok
    assert dict(rpc.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "mad.v1.ScoringService",
        "rpc.method": "Score",
        "rpc.grpc.status": "INVALID_ARGUMENT",
    }
    assert not rpc.events
    assert "secret" not in rpc.to_json()


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the names of the spans it is sent."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.services: set[str] = set()

    def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:  # noqa: N802, ANN401, ARG002  # gRPC's names
        for resource in request.resource_spans:
            self.services |= {
                one.value.string_value
                for one in resource.resource.attributes
                if one.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.names |= {span.name for span in scope.spans}
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_a_real_collector_gets_the_spans_before_a_server_has_drained(
    world: World, tmp_path: Path
) -> None:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # no stubs
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        tracing = await asyncio.to_thread(Tracing.to, f"http://127.0.0.1:{port}")
        async with traced(world, tmp_path, tracing) as client:
            await client.score(live(1))
        assert {"mad.v1.ScoringService/Score", *STAGES} <= collector.names
        assert collector.services == {"mad"}
    finally:
        server.stop(None)


async def test_a_collector_that_is_not_there_costs_no_answer(world: World, tmp_path: Path) -> None:
    tracing = await asyncio.to_thread(Tracing.to, "http://127.0.0.1:1")
    async with traced(world, tmp_path, tracing) as client:
        assert (await client.score(live(1))).scores


@pytest.mark.slow  # it imports the whole server anew
def test_a_server_without_tracing_imports_nothing_of_it() -> None:
    script = (
        "import sys, mad.service.server\n"
        "from mad.service.tracing import Tracing\n"
        "assert not Tracing().is_on\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert run.stdout.decode().strip() == "[]"


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from mad.errors import ConfigError  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(ConfigError, match=r"install mad\[otel\]"):
        Tracing.to("http://127.0.0.1:4317")
