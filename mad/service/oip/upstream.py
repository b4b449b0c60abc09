"""The server that runs the model, where another one does: its answers, and whether it is ready."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import grpc

from mad.errors import ConfigError, UpstreamError
from mad.service.calls import Context
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.model import SERVICE
from mad.service.oip.scores import NAMES as SCORES
from mad.types import Site

log = logging.getLogger(__name__)

_LOOK_S: Final = 2.0
_PASSED_ON: Final = frozenset({"traceparent", "tracestate", "x-request-id"})
"""Headers of callers that an upstream server may see: none that say who they are."""


@final
@dataclass(frozen=True, kw_only=True)
class UpstreamPlan:
    """Where the model runs and what its outputs are; see the settings.

    ``activations`` has the output that is each site's activation; without any, a copy of the model
    is run here. ``patience_s`` is how long an answer waits for its scores.
    """

    address: str
    outputs: tuple[str, ...] = ()
    activations: Mapping[Site, str] = field(default_factory=dict)
    timeout_s: float = 10.0
    patience_s: float = 0.25
    has_tls: bool = False
    ca: Path | None = None
    poll_s: float = 1.0


@final
class Upstream:
    """A channel to an upstream server, which is asked every so often whether it is ready.

    Calls raise the errors that it answers with.
    """

    def __init__(
        self, plan: UpstreamPlan, *, model: str, version: str, max_message_bytes: int
    ) -> None:
        self._plan = plan
        self._asked = {"name": model, "version": version}
        self._options = _options(max_message_bytes)
        self._credentials = _credentials(plan)
        self._is_ready = False
        self._said = ""
        self._defaults: tuple[str, ...] = ()
        self._watching: asyncio.Task[None] | None = None
        self._channel: grpc.aio.Channel | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests for the model, as far as is known."""
        return self._is_ready

    @property
    def default_outputs(self) -> tuple[str, ...]:
        """What to ask for when the caller asks for nothing in particular; empty for everything."""
        return self._defaults

    def open(self) -> None:
        """Open the channel, in the running event loop; nothing is called yet."""
        address, options = self._plan.address, self._options
        channel = (
            grpc.aio.insecure_channel(address, options)
            if self._credentials is None
            else grpc.aio.secure_channel(address, self._credentials, options)
        )
        self._channel = channel
        self._infer = _method(channel, "ModelInfer", pb.ModelInferResponse)
        self._metadata = _method(channel, "ModelMetadata", pb.ModelMetadataResponse)
        self._ready = _method(channel, "ModelReady", pb.ModelReadyResponse)

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Look once, then every so often; ``changed`` is awaited when it became ready or ceased."""
        self._is_ready = await self._look()
        self._watching = asyncio.create_task(self._watch(changed))

    async def check(self) -> None:
        """Ask once whether it takes requests for the model, and has the outputs that are named.

        Raises UpstreamError if it does not answer or is not ready, ConfigError for other outputs.
        """
        named = f"upstream {self._plan.address}"
        try:
            answer = await self._ready(pb.ModelReadyRequest(**self._asked), timeout=_LOOK_S)
            metadata = pb.ModelMetadataRequest(**self._asked)
            if answer.ready and not self._is_ready:
                self._learn(await self._metadata(metadata, timeout=_LOOK_S))
        except grpc.aio.AioRpcError as error:
            raise UpstreamError(
                f"{named} says {error.code().name}: {error.details()}; start it, or mend "
                "upstream.address or upstream.model"
            ) from error
        if not answer.ready:
            raise UpstreamError(f"{named} is not ready for {self._asked['name']!r}; load it there")

    async def close(self) -> None:
        """Stop to look, and close the channel."""
        self._is_ready = False
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    async def infer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Run the model there, until the caller's deadline or ours; a caller's leaving ends it."""
        answer: pb.ModelInferResponse = await self._call(self._infer, request, context)
        return answer

    async def metadata(self, context: Context) -> pb.ModelMetadataResponse:
        """Return what it says of the model."""
        request = pb.ModelMetadataRequest(**self._asked)
        answer: pb.ModelMetadataResponse = await self._call(self._metadata, request, context)
        return answer

    async def _call(self, method: Any, request: Any, context: Context) -> Any:  # noqa: ANN401
        left_s: float | None = context.time_remaining()
        limit_s = self._plan.timeout_s
        headers = context.invocation_metadata() or ()
        return await method(
            request,
            timeout=limit_s if left_s is None else min(limit_s, left_s),
            metadata=[pair for pair in headers if pair[0] in _PASSED_ON],
        )

    async def _watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._plan.poll_s)
            was_ready, self._is_ready = self._is_ready, await self._look()
            if was_ready != self._is_ready:
                fields = {"address": self._plan.address, "is_ready": self._is_ready}
                log.warning("upstream changed: %s", fields, extra=fields)
                await changed()

    async def _look(self) -> bool:
        try:
            await self.check()
        except (UpstreamError, ConfigError) as error:
            if str(error) != self._said:
                log.error("%s", error)  # noqa: TRY400  # the operator's, or that server's
            self._said = str(error)
            return False
        self._said = ""
        return True

    def _learn(self, metadata: pb.ModelMetadataResponse) -> None:
        """Find out which outputs are the model's answer; ConfigError where ours are missing."""
        found = [output.name for output in metadata.outputs]
        wanted = (*self._plan.outputs, *self._plan.activations.values())
        for name in wanted:
            if found and name not in found:
                raise ConfigError(
                    f"the upstream model has no output {name!r}; it has {', '.join(found)}: mend "
                    "upstream.outputs or upstream.activations"
                )
        hidden = {*self._plan.activations.values(), *SCORES}
        own = tuple(name for name in found if name not in hidden)
        self._defaults = self._plan.outputs or (own if len(own) < len(found) else ())


def _method(channel: grpc.aio.Channel, name: str, answer: Any) -> Any:  # noqa: ANN401
    return channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # An upstream server that comes back should not wait two minutes to be seen.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Our caller retries, or not: an inference need not be harmless to repeat.
        ("grpc.enable_retries", 0),
    ]


def _credentials(plan: UpstreamPlan) -> grpc.ChannelCredentials | None:
    if not plan.has_tls:
        return None
    try:
        roots = plan.ca.read_bytes() if plan.ca else None
    except OSError as error:
        raise ConfigError(f"cannot read upstream.ca {plan.ca}: {error.strerror}") from error
    return grpc.ssl_channel_credentials(roots)
