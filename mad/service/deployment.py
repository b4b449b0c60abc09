"""From an operator's settings to what they name: model, dictionaries, and a server to start."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from mad import config
from mad.alerts.log import AlertLog
from mad.baseline.store import BaselineStore
from mad.capture.loading import load_model
from mad.capture.model import MonitoredModel
from mad.capture.sites import resolve
from mad.components.base import Decomposition
from mad.components.dictionaries.files import INDEX, load_dictionaries
from mad.errors import ConfigError
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.service.registry import Registry
from mad.service.server import Limits, Server


def from_settings(settings: config.Settings, *, collectors: CollectorRegistry) -> Server:
    """Load the model, its dictionaries and the active baseline, and build the server.

    The server's metrics are registered in ``collectors``. Raises ConfigError or BaselineError,
    naming what cannot be used and the remedy.
    """
    store = BaselineStore(settings.baseline.store)
    monitor = load_monitor(settings, store)
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
        alert_log=AlertLog.open(settings.server.alert_log),
        metrics=metrics,
        limits=Limits(
            max_batch=settings.server.max_batch,
            max_request_inputs=settings.server.max_request_inputs,
            max_queued_inputs=settings.server.max_queued_inputs,
            max_message_bytes=settings.server.max_message_bytes,
        ),
        has_reflection=settings.server.reflection,
    )


def load_monitor(settings: config.Settings, store: BaselineStore) -> Monitor:
    """Read the monitored model, its dictionaries and the active baseline, and bind them."""
    model = monitored_model(settings)
    decomposition = trained_decomposition(settings, model)
    return Monitor.bind(model, decomposition, store.load(settings.baseline.name))


def monitored_model(settings: config.Settings) -> MonitoredModel:
    """Build the monitored model and load its weights; ConfigError if it cannot be."""
    return load_model(
        settings.model.factory,
        settings.model.weights,
        name=settings.model.name,
        inputs=settings.model.inputs,
        arguments=settings.model.arguments,
        base=Path(),  # a factory's file is absolute in settings
    )


def trained_decomposition(settings: config.Settings, model: MonitoredModel) -> Decomposition:
    """Read the dictionaries; ConfigError if there are none, or of other sites than settings'."""
    path = settings.decomposition.path
    if not (path / INDEX).is_file():
        raise ConfigError(f"there are no dictionaries in {path}; run `mad train` or `mad fit`")
    decomposition = load_dictionaries(path)
    sites = resolve(model.module, settings.decomposition.sites)
    if set(decomposition.sites) != set(sites):
        raise ConfigError(
            f"the dictionaries in {path} are of sites {', '.join(decomposition.sites)}, and "
            f"the settings name {', '.join(sites)}; name another path, or run `mad train`"
        )
    return decomposition
