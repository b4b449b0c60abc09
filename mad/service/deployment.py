"""From an operator's settings to a server to start."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry

from mad import config
from mad.alerts.grouping import GroupPlan
from mad.alerts.log import AlertLog
from mad.alerts.values import Retention
from mad.audit import AuditLog
from mad.deployment import Deployment
from mad.metrics import Metrics
from mad.service.alert_writer import UpkeepPlan
from mad.service.auth.certificates import TlsFiles
from mad.service.auth.guard import Access
from mad.service.clock import utc_now
from mad.service.fit_jobs.setup import FitSetup
from mad.service.oip.ext_proc.servicer import Reaction
from mad.service.oip.serving import InferencePlan
from mad.service.oip.upstream import UpstreamPlan
from mad.service.promotion.promoting import PromotionPlan
from mad.service.registry import Registry
from mad.service.server import Limits, Server
from mad.service.shares import CallerLimits
from mad.service.tracing import Tracing
from mad.service.watch import WatchPlan


def from_settings(settings: config.Settings, *, collectors: CollectorRegistry) -> Server:
    """Load the model, its dictionaries and the active baseline, and build the server.

    The server's metrics are registered in ``collectors``. Raises ConfigError or BaselineError,
    naming what cannot be used and the remedy.
    """
    settings.security.check_exposed(settings.server.grpc_address, settings.server.http_address)
    deployment = Deployment.of(settings)
    monitor, store = deployment.monitor(), deployment.store
    manifest = monitor.baseline.manifest
    metrics = Metrics(
        collectors, model=manifest.model_name, false_alarm_rates=[manifest.false_alarm_rate]
    )
    entry = store.entry(manifest.name, manifest.version)
    metrics.baseline_loaded(manifest, digest=entry.digest)
    return Server(
        address=str(settings.server.grpc_address),
        registry=Registry([monitor], default=manifest.name),
        store=store,
        alert_log=AlertLog.open(
            settings.server.alert_log,
            plan=GroupPlan(quiet_s=settings.alerts.incident_quiet_seconds),
        ),
        audit=AuditLog.open(settings.security.audit_log, clock=utc_now),
        metrics=metrics,
        limits=Limits(
            max_batch=settings.server.max_batch,
            max_request_inputs=settings.server.max_request_inputs,
            max_queued_inputs=settings.server.max_queued_inputs,
            max_message_bytes=settings.server.max_message_bytes,
            callers=CallerLimits(
                requests_per_caller=settings.callers.requests,
                streams_per_caller=settings.callers.streams,
                streams=settings.server.max_streams,
                stream_requests=settings.server.max_stream_requests,
                inputs_per_second_per_caller=settings.callers.inputs_per_second,
            ),
        ),
        watch=WatchPlan(
            false_alarm_rate=settings.stream.false_alarm_rate,
            inputs_per_false_alarm=settings.stream.inputs_per_false_alarm,
            checkpoint=settings.stream.checkpoint,
            checkpoint_s=settings.stream.checkpoint_seconds,
        ),
        access=access_of(settings.security),
        tracing=tracing_of(settings.tracing),
        upkeep=UpkeepPlan(
            retention=Retention(
                days=settings.alerts.retention_days, max_alerts=settings.alerts.max_alerts
            )
        ),
        fits=FitSetup.of(settings),
        promotion=PromotionPlan(
            exam=deployment.exam(),
            bounds=deployment.bounds,
            poll_s=settings.promotion.poll_seconds,
        ),
        inference=inference_of(settings),
        has_reflection=settings.server.reflection,
    )


_REACTIONS: Final[Mapping[str, Reaction | None]] = {"off": None, "tell": "tell", "block": "block"}


def inference_of(settings: config.Settings) -> InferencePlan:
    """Return where the model runs, and what it is called in the open protocol."""
    mode, wanted = settings.server.mode, settings.upstream
    upstream = UpstreamPlan(
        address=str(wanted.address),
        outputs=wanted.outputs,
        activations=wanted.activations,
        timeout_s=wanted.timeout_seconds,
        patience_s=wanted.patience_seconds,
        has_tls=wanted.tls,
        ca=wanted.ca,
    )
    return InferencePlan(
        mode=mode,
        model="" if mode == "wrap" else wanted.model,
        version=wanted.version,
        upstream=upstream if mode == "proxy" else None,
        reaction=_REACTIONS[settings.server.external_processing],
    )


def tracing_of(tracing: config.Tracing) -> Tracing:
    """Return where the settings send traces; ConfigError if nothing here can send any."""
    return Tracing() if tracing.endpoint is None else Tracing.to(tracing.endpoint)


def access_of(security: config.Security) -> Access:
    """Return what the settings ask of callers."""
    certificate, key = security.tls_certificate, security.tls_key
    tls = None
    if certificate is not None and key is not None:
        tls = TlsFiles(certificate=certificate, key=key, client_ca=security.client_ca)
    return Access(principals=security.tokens, tls=tls, coarse_bits=security.coarse_bits)
