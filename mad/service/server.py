"""The composition root of the service: builds everything, starts nothing by itself."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mad.alerts.log import AlertLog
from mad.audit import AuditLog
from mad.baseline.store import BaselineStore
from mad.errors import ConfigError
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.service.alert_desk import AlertDesk
from mad.service.alert_writer import UpkeepPlan
from mad.service.answering import Answering
from mad.service.auth.guard import Access, Guard
from mad.service.auth.probing import Probing
from mad.service.baselines import BaselineServicer
from mad.service.batching import Batcher
from mad.service.calibration import CalibrationServicer
from mad.service.calls import Around, wrapped
from mad.service.clock import utc_now
from mad.service.errors import refuse
from mad.service.fit_jobs.fits import Fits
from mad.service.fit_jobs.setup import FitSetup
from mad.service.listening.listener import listener
from mad.service.objective import Objective
from mad.service.observed import Observations
from mad.service.oip.model import SERVICE as INFERENCE
from mad.service.oip.serving import InferencePlan, InferenceServing
from mad.service.options import options
from mad.service.promotion.loading import Loading
from mad.service.promotion.promoting import Promoting, PromotionPlan
from mad.service.reflecting import reflect
from mad.service.registry import Registry
from mad.service.scoring import ScoringServicer
from mad.service.shadowing import Shadowing
from mad.service.shares import CallerLimits, Shares, shared
from mad.service.streams import StreamServicer
from mad.service.tracing import Tracing
from mad.service.visits import Visits
from mad.service.warming import warm_up
from mad.service.watch import StreamWatch, WatchPlan
from mad.v1 import (
    alerts_pb2,
    alerts_pb2_grpc,
    baselines_pb2,
    baselines_pb2_grpc,
    calibration_pb2,
    calibration_pb2_grpc,
    scoring_pb2,
    scoring_pb2_grpc,
    streams_pb2,
    streams_pb2_grpc,
)

SERVICES: Final = tuple(
    file.services_by_name[name].full_name
    for file, name in (
        (scoring_pb2.DESCRIPTOR, "ScoringService"),
        (baselines_pb2.DESCRIPTOR, "BaselineService"),
        (alerts_pb2.DESCRIPTOR, "AlertService"),
        (streams_pb2.DESCRIPTOR, "StreamService"),
        (calibration_pb2.DESCRIPTOR, "CalibrationService"),
    )
)
"""Our own services; the Open Inference Protocol's is beside them."""


@final
@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes on; the numbers are explained in the settings."""

    max_batch: int
    max_request_inputs: int
    max_queued_inputs: int
    max_message_bytes: int
    callers: CallerLimits = field(default_factory=CallerLimits)


@final
@dataclass(kw_only=True, eq=False)
class Server:
    """A gRPC server over loaded monitors. It owns the logs it is given, and closes them.

    ``address`` is ``host:port``; port 0 takes any free one. Without ``fits`` it takes no trusted
    data.
    """

    address: str
    registry: Registry
    store: BaselineStore
    alert_log: AlertLog
    audit: AuditLog
    metrics: Metrics
    limits: Limits
    upkeep: UpkeepPlan = field(default_factory=UpkeepPlan)
    watch: WatchPlan = field(default_factory=WatchPlan)
    access: Access = field(default_factory=Access)
    tracing: Tracing = field(default_factory=Tracing)
    fits: FitSetup | None = None
    promotion: PromotionPlan = field(default_factory=PromotionPlan)
    inference: InferencePlan = field(default_factory=InferencePlan)
    has_reflection: bool = True
    clock: Callable[[], datetime] = utc_now

    _health: health.aio.HealthServicer = field(
        init=False, default_factory=health.aio.HealthServicer
    )
    _draining: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _grpc: grpc.aio.Server | None = field(init=False, default=None)
    _is_serving: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        limits = self.limits
        if limits.max_request_inputs > limits.max_queued_inputs:
            raise ConfigError(
                f"max_request_inputs {limits.max_request_inputs} exceeds max_queued_inputs "
                f"{limits.max_queued_inputs}; no such request could ever be taken"
            )
        self.guard = Guard(self.access, audit=self.audit, metrics=self.metrics)
        self._alerts = AlertDesk(
            self.alert_log,
            self.upkeep,
            audit=self.audit,
            metrics=self.metrics,
            draining=self._draining,
            clock=self.clock,
        )
        self._shares = Shares(limits.callers)
        self._observations = Observations(clock=self.clock)
        objective = Objective(self.registry, self._observations)
        self.metrics.calibration.read_from(objective.changes)
        self._batcher = Batcher(
            max_batch=limits.max_batch,
            max_queued_inputs=limits.max_queued_inputs,
            shares=self._shares,
            shadowing=Shadowing(self.metrics, self._observations),
            metrics=self.metrics,
        )
        default = self.registry.resolve("").baseline
        self._watch = StreamWatch(default, self.watch, metrics=self.metrics, clock=self.clock)
        self._inference = InferenceServing(
            self.inference, self.registry.resolve(""), max_message_bytes=limits.max_message_bytes
        )
        self._fits = Fits(
            self.fits,
            registry=self.registry,
            store=self.store,
            metrics=self.metrics,
            audit=self.audit,
            clock=self.clock,
        )
        loading = Loading(self.store, self.registry, self._batcher, self._watch, self.metrics)
        self._promoting = Promoting(self.promotion, loading, self.audit)
        self.visits = Visits(self.guard, self._alerts.servicer, self._promoting)

    def look_at_store(self) -> None:
        """Follow aliases that were moved elsewhere now, and what failed before once more."""
        self._promoting.following.ask()

    async def start(self) -> int:
        """Listen, warm every monitor up, report SERVING, and return the port.

        A server that cannot start is drained. Raises ConfigError when the address cannot be bound
        or a model cannot run.
        """
        try:
            return await self._start()
        except BaseException:
            await self.drain(lame_duck_s=0, grace_s=0)
            raise

    async def drain(self, *, lame_duck_s: float, grace_s: float) -> None:
        """Stop without losing a call, then close the logs.

        Clients that watch health leave during ``lame_duck_s``; calls under way then have
        ``grace_s`` to end, while streams answer what they have in hand and end at once.
        """
        self._is_serving = False
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(lame_duck_s)
        self._draining.set()
        if self._grpc is not None:
            await self._grpc.stop(grace_s)
        await self._promoting.following.close()
        await self._inference.close()
        await self._fits.close()
        await self._batcher.close()
        await self._watch.close()
        await self._alerts.close()
        await self.guard.close()
        await asyncio.to_thread(self.audit.close)
        await asyncio.to_thread(self.tracing.close)

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests: it serves, and so does the upstream server, if any."""
        return self._is_serving and self._inference.is_ready

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        if self._grpc is not None:
            await self._grpc.wait_for_termination()

    async def _start(self) -> int:
        await self._report()
        self._grpc = self._compose()
        try:
            port = self.guard.listen(self._grpc, self.address)
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {self.address}: the port is taken or the address is not this "
                "machine's; set server.grpc_address to another, or to port 0 for any free one"
            ) from error
        self.guard.start()
        self._batcher.start()
        self._alerts.start()
        self._watch.start()
        await self._fits.start()
        await self._grpc.start()
        steady: list[Monitor] = []
        for monitor in self.registry.monitors:
            outputs = await self._batcher.call(partial(warm_up, monitor), kind="warm-up")
            self._inference.ran(outputs)
            steadied = partial(monitor.steadied, most=self.limits.max_batch)
            steady.append(await self._batcher.call(steadied, kind="warm-up"))
        self.registry.steady(steady)
        self._promoting.following.start()
        self._is_serving = True
        await self._inference.start(self._report)
        await self._report()
        return port

    def _compose(self) -> grpc.aio.Server:
        around = Around(
            metrics=self.metrics,
            admit=self.guard.admit,
            hold=partial(shared, shares=self._shares),
            refuse=partial(refuse, metrics=self.metrics),
            trace=self.tracing.traced if self.tracing.is_on else None,
        )
        most = self.limits.max_message_bytes
        wrap = partial(wrapped, around=around, max_message_bytes=most)
        server = listener(wrap=wrap, options=options(max_message_bytes=most))
        answering = Answering(
            registry=self.registry,
            batcher=self._batcher,
            alerts=self._alerts.writer,
            watch=self._watch,
            observations=self._observations,
            metrics=self.metrics,
            tracing=self.tracing,
            probing=Probing(self.metrics, clock=time.monotonic),
            coarse_bits=self.access.coarse_bits,
            max_request_inputs=self.limits.max_request_inputs,
            clock=self.clock,
        )
        scoring = ScoringServicer(
            answering=answering,
            max_message_bytes=most,
            stream_requests=self.limits.callers.stream_requests,
            draining=self._draining,
        )
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(scoring, server)
        self._inference.add_to(
            server,
            answering,
            is_ready=lambda: self.is_ready,
            stream_requests=self.limits.callers.stream_requests,
            draining=self._draining,
        )
        baselines_pb2_grpc.add_BaselineServiceServicer_to_server(
            BaselineServicer(self.store, self.registry, self._fits, self._promoting), server
        )
        alerts_pb2_grpc.add_AlertServiceServicer_to_server(self._alerts.servicer, server)
        streams_pb2_grpc.add_StreamServiceServicer_to_server(StreamServicer(self._watch), server)
        calibration_pb2_grpc.add_CalibrationServiceServicer_to_server(
            CalibrationServicer(self.registry, self._observations), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self.has_reflection:
            reflect((*SERVICES, *self._inference.services, health.SERVICE_NAME), server)
        return server

    async def _report(self) -> None:
        """Tell those who watch health whether this server is ready."""
        answer = health_pb2.HealthCheckResponse
        status = answer.SERVING if self.is_ready else answer.NOT_SERVING
        for name in ("", INFERENCE, *SERVICES):
            await self._health.set(name, status)
