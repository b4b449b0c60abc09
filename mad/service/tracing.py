"""Spans of calls and their stages, for an OpenTelemetry collector; without one, nothing at all.

The only file that knows OpenTelemetry, which need not be installed. Spans hold names, times, sizes
and statuses, and the request's id: no input, no exception, no principal.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from mad.errors import ConfigError
from mad.service.calls import Call, code_of
from mad.service.errors import request_id

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXPORT_S: Final = 5
"""Time a collector has to take spans; those it does not are dropped."""


@final
class Tracing:
    """Writes spans by a provider, which it shuts down; by default there is none, and it is off."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("mad")
        self.is_on: Final = provider is not None

    @staticmethod
    def to(endpoint: str) -> "Tracing":
        """Send spans to a collector by OTLP over gRPC, in the background.

        ``OTEL_*`` variables say the rest, such as how many calls are traced. Raises ConfigError if
        OpenTelemetry is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415  # an extra
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # an extra
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # an extra
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # an extra
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"tracing.endpoint needs the Python package {error.name}; install mad[otel], or "
                "leave the endpoint out"
            ) from error
        provider = TracerProvider(resource=Resource.create({"service.name": "mad"}))
        exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=_EXPORT_S
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return Tracing(provider)

    def close(self) -> None:
        """Send what is left, as long as a collector takes it."""
        if self._provider is not None:
            self._provider.shutdown()

    def stages(self, began_ns: int, seconds: Mapping[str, float]) -> None:
        """Write a span a stage of what was judged just now, one after the other until now.

        What is left of the time since ``began_ns`` was spent in the queue. Stages are those of the
        whole batch that the request was judged in.
        """
        now = time.time_ns()
        lengths = {stage: round(length * 1e9) for stage, length in seconds.items()}
        start = max(now - sum(lengths.values()), began_ns)
        self.stage("queue", began_ns, start)
        for stage, length in lengths.items():
            self.stage(stage, start, min(start + length, now))
            start = min(start + length, now)

    def stage(self, name: str, began_ns: int, ended_ns: int | None = None) -> None:
        """Write a span below that of the call, until now if nothing else is said."""
        if self._tracer is None:
            return
        attributes = {"mad.request_id": request_id.get()}
        span = self._tracer.start_span(name, start_time=began_ns, attributes=attributes)
        span.end(end_time=time.time_ns() if ended_ns is None else ended_ns)

    @contextmanager
    def traced(self, call: Call) -> Iterator[None]:
        """Write a span of a call, below the one that its metadata names as ``traceparent``.

        Calls of gRPC's own services, health and reflection, have none.
        """
        if call.rpc.service.startswith("grpc."):
            yield
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415  # an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415  # an extra
            TraceContextTextMapPropagator,
        )

        assert self._tracer is not None
        carrier = {key: value for key, value in call.metadata if isinstance(value, str)}
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": call.rpc.service,
            "rpc.method": call.rpc.method,
        }
        with self._tracer.start_as_current_span(
            call.method,
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException:
                span.set_attribute("rpc.grpc.status", code_of(call.context))
                span.set_status(Status(StatusCode.ERROR))
                raise
            span.set_attribute("rpc.grpc.status", "OK")
