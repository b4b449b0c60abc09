"""The protocol's part of a server: one mode, what warm-up saw, and the upstream server if any."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, final

import grpc

from mad.capture.hooks import Outputs
from mad.errors import ConfigError
from mad.monitor import Monitor
from mad.service.answering import Answering
from mad.service.oip import inference_pb2 as pb
from mad.service.oip.ext_proc import servicer as ext_proc
from mad.service.oip.forms import Forms
from mad.service.oip.mirror import Mirror
from mad.service.oip.mode import Mode
from mad.service.oip.model import ONLY_VERSION, SERVICE, ServedName, Signature
from mad.service.oip.proxy import Proxy
from mad.service.oip.servicer import InferenceServicer, add_to_server
from mad.service.oip.upstream import Upstream, UpstreamPlan
from mad.service.oip.wrap import Wrap


@final
@dataclass(frozen=True, kw_only=True)
class InferencePlan:
    """How the protocol is answered: by the model here, by an upstream server, or with nothing.

    ``model`` and ``version`` are what callers call the model; empty, they are its name in the
    settings and any version. A proxy, and nothing else, has an upstream server. ``reaction``
    is what Envoy's external processing does with alerts; None does not serve it.
    """

    mode: Literal["wrap", "proxy", "mirror"] = "wrap"
    model: str = ""
    version: str = ""
    upstream: UpstreamPlan | None = None
    reaction: ext_proc.Reaction | None = None


@final
class InferenceServing:
    """What a server does for the protocol besides answering calls.

    Raises ConfigError for a plan that does not fit the monitor, or an unreadable certificate.
    """

    def __init__(self, plan: InferencePlan, monitor: Monitor, *, max_message_bytes: int) -> None:
        self._plan = plan
        self._name = _name(plan, monitor)
        self._signature = Signature.of(monitor.baseline.manifest)
        self._max_bytes = max_message_bytes
        self._upstream = self._upstream_of(monitor)
        self._proxy: Proxy | None = None

    @property
    def is_ready(self) -> bool:
        """Whether whatever runs the model takes requests, as far as is known."""
        return self._upstream is None or self._upstream.is_ready

    @property
    def services(self) -> tuple[str, ...]:
        """The services it serves, by their full names."""
        return (SERVICE,) if self._plan.reaction is None else (SERVICE, ext_proc.SERVICE)

    def ran(self, outputs: Outputs) -> None:
        """The model was warmed up with one input; it returned this."""
        self._signature.ran(outputs)

    def add_to(
        self,
        server: grpc.aio.Server,
        answering: Answering,
        *,
        is_ready: Callable[[], bool],
        stream_requests: int,
        draining: asyncio.Event,
    ) -> None:
        """Serve the protocol."""
        mode = self._mode(answering)
        # Others take requests apart, and need to have them parsed.
        wrap = mode if isinstance(mode, Wrap) else None
        servicer = InferenceServicer(
            mode=mode,
            read=Forms().read if wrap else pb.ModelInferRequest.FromString,
            together=wrap.infer_together if wrap else None,
            answering=answering,
            is_ready=is_ready,
            max_message_bytes=self._max_bytes,
            stream_requests=stream_requests,
            draining=draining,
        )
        add_to_server(servicer, server)
        if self._plan.reaction is not None:
            processor = ext_proc.ExternalProcessor(
                answering=answering, reaction=self._plan.reaction
            )
            ext_proc.add_to_server(processor, server)

    async def start(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Look after the upstream server from now on; ``changed`` is awaited when it did."""
        if self._upstream is not None:
            await self._upstream.watch(changed)

    async def close(self) -> None:
        """Wait for what is late, and leave the upstream server."""
        if self._proxy is not None:
            await self._proxy.close()
        if self._upstream is not None:
            await self._upstream.close()

    def _mode(self, answering: Answering) -> Mode:
        if self._upstream is not None:
            assert self._plan.upstream is not None
            self._upstream.open()
            self._proxy = Proxy(
                name=self._name,
                answering=answering,
                signature=self._signature,
                upstream=self._upstream,
                plan=self._plan.upstream,
                max_message_bytes=self._max_bytes,
            )
            return self._proxy
        kind = Mirror if self._plan.mode == "mirror" else Wrap
        return kind(self._name, answering, self._signature)

    def _upstream_of(self, monitor: Monitor) -> Upstream | None:
        plan = self._plan.upstream
        if plan is None:
            return None
        sites = monitor.scorer.decomposition.sites
        if plan.activations and set(plan.activations) != set(sites):
            raise ConfigError(
                f"upstream.activations names the sites {sorted(plan.activations)}, and the "
                f"dictionaries are of {sorted(sites)}; name an output for each"
            )
        return Upstream(
            plan,
            model=self._name.model,
            version=self._name.version,
            max_message_bytes=self._max_bytes,
        )


def _name(plan: InferencePlan, monitor: Monitor) -> ServedName:
    version = ONLY_VERSION if plan.mode == "wrap" else plan.version
    return ServedName(plan.model or monitor.baseline.manifest.model_name, version)
