"""Everything that a server needs, tried one by one: settings in; findings, with remedies, out.

What is tried is what the server itself does, not a description of it.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Generic, Literal, TypeAlias, TypeVar, final

from mad import config
from mad.alerts.log import AlertLog
from mad.audit import AuditLog
from mad.baseline.bundle import Baseline
from mad.baseline.store import BaselineStore
from mad.components.base import Decomposition
from mad.config import Address
from mad.deployment import Deployment
from mad.errors import ConfigError, MadError
from mad.monitor import Monitor
from mad.renderer import trusted_inputs
from mad.service.auth.certificates import Certificates
from mad.service.auth.principals import Principals
from mad.service.clock import utc_now
from mad.service.deployment import access_of, inference_of, tracing_of
from mad.service.oip.upstream import Upstream, UpstreamPlan
from mad.service.warming import warm_up
from mad.streams.checkpoint import load

Outcome: TypeAlias = Literal["ok", "failed", "not tried"]

Found = TypeVar("Found")


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """What was tried, and what was found, or what is wrong and the remedy."""

    what: str
    outcome: Outcome
    text: str


def findings(settings: config.Settings) -> Iterator[Finding]:
    """Try everything, however much fails; a finding comes as soon as it is made."""
    yield from _judging(settings)
    yield from _keeping(settings)
    yield from _listening(settings)


def _judging(settings: config.Settings) -> Iterator[Finding]:
    """Try the model, its dictionaries, the baseline, and all of them together."""
    loaded = _tried("model", lambda: Deployment.of(settings), _told_of_model)
    yield loaded.finding
    parts = _tried("dictionaries", lambda: _dictionaries(loaded.value), _told_of_dictionaries)
    yield parts.finding
    fitted = _tried("baseline", lambda: _active(settings), _told_of_baseline)
    yield fitted.finding
    bound = _tried(
        "fingerprints",
        lambda: Monitor.bind(loaded.value.model, parts.value, fitted.value),
        lambda _: "model and dictionaries are those of the baseline",
    )
    yield bound.finding
    warmed = _tried("warm-up", lambda: _warmed(bound.value), lambda s: f"judged zeros in {s:.2f} s")
    yield warmed.finding
    exam = _tried("gates", lambda: _exam(loaded.value), str)
    yield exam.finding
    yield _plain("renderer", lambda: _rendered(settings))


def _keeping(settings: config.Settings) -> Iterator[Finding]:
    """Try what is written: alerts, records, baselines, evidence, trusted inputs."""
    name = settings.baseline.name
    yield _plain("alert log", lambda: _alerts_written(settings.server.alert_log))
    yield _plain("audit log", lambda: _records_written(settings.security.audit_log))
    yield _plain("baseline store", lambda: _store_written(settings, name))
    yield _plain("stream checkpoint", lambda: _checkpoint(settings.stream.checkpoint))
    yield _plain("fit directory", lambda: _directory(settings.fit.directory, "fit.directory"))


def _listening(settings: config.Settings) -> Iterator[Finding]:
    """Try what callers meet: addresses, certificates, tokens."""
    server, security = settings.server, settings.security
    yield _plain("gRPC address", lambda: _bound(server.grpc_address, "server.grpc_address"))
    yield _plain("HTTP address", lambda: _bound(server.http_address, "server.http_address"))
    yield _plain("exposure", lambda: _exposure(settings))
    yield _plain("TLS", lambda: _certificates(security))
    yield _plain("tokens", lambda: _tokens(security))
    yield _plain("tracing", lambda: _traces(settings.tracing))
    yield _plain("upstream", lambda: _upstream(settings))


class _Missing(Exception):  # noqa: N818  # what was tried before was not found
    pass


@final
@dataclass(frozen=True)
class _Tried(Generic[Found]):
    """How a try ended; what it found is asked for by what comes after it."""

    finding: Finding
    found: tuple[Found, ...]

    @property
    def value(self) -> Found:
        """What was found."""
        if not self.found:
            raise _Missing(f"it needs the {self.finding.what}")
        return self.found[0]


def _tried(what: str, work: Callable[[], Found], told: Callable[[Found], str]) -> _Tried[Found]:
    try:
        found = work()
    except _Missing as missing:
        return _Tried(Finding(what, "not tried", str(missing)), ())
    except MadError as error:
        return _Tried(Finding(what, "failed", str(error)), ())
    except Exception as error:  # noqa: BLE001  # one check that dies must not hide the others
        return _Tried(Finding(what, "failed", f"{type(error).__name__}: {error}"), ())
    return _Tried(Finding(what, "ok", told(found)), (found,))


def _plain(what: str, work: Callable[[], str]) -> Finding:
    return _tried(what, work, str).finding


def _dictionaries(deployment: Deployment) -> Decomposition:
    return deployment.decomposition()


def _told_of_dictionaries(decomposition: Decomposition) -> str:
    return ", ".join(decomposition.views)


def _exam(deployment: Deployment) -> str:
    exam = deployment.exam()
    counts = {"trusted": exam.trusted, "canaries": exam.canaries}
    return ", ".join(
        f"{name}: {'none' if data is None else f'{len(data)} inputs'}"
        for name, data in counts.items()
    )


def _rendered(settings: config.Settings) -> str:
    shows = trusted_inputs(settings)
    if shows is None:
        return "none: pages name trusted inputs by their rows"
    return f"showed the first trusted input: {shows.try_out()}"


def _told_of_model(deployment: Deployment) -> str:
    model = deployment.model
    return f"{model.name}, fingerprint {model.fingerprint[:12]}"


def _active(settings: config.Settings) -> Baseline:
    return BaselineStore(settings.baseline.store).load(settings.baseline.name)


def _told_of_baseline(baseline: Baseline) -> str:
    manifest = baseline.manifest
    return (
        f"{manifest.revision}, {manifest.reference_inputs} inputs in its reference, alerts on "
        f"{manifest.alert_on} at a rate of {manifest.false_alarm_rate:g}"
    )


def _warmed(monitor: Monitor) -> float:
    """Judge in a thread of its own, as the server does; return the seconds it took."""
    start = time.perf_counter()
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(warm_up, monitor).result()
    return time.perf_counter() - start


def _alerts_written(url: str) -> str:
    alert_log = AlertLog.open(url)
    try:
        return f"{alert_log.check_writable()} can be written"
    finally:
        alert_log.close()


def _records_written(path: Path) -> str:
    audit = AuditLog.open(path, clock=utc_now)
    audit.close()
    return f"{path}, {audit.chain.count} records"


def _store_written(settings: config.Settings, name: str) -> str:
    store = BaselineStore(settings.baseline.store)
    store.prepare(name)
    return f"{store.root} can be written"


def _checkpoint(path: Path) -> str:
    _directory(path.parent, "stream.checkpoint")
    found = load(path)
    return f"{path}, " + ("a new stream" if found is None else f"{found.stream.inputs} inputs")


def _directory(directory: Path, setting: str) -> str:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=directory, prefix=".check-"):
            return f"{directory} can be written"
    except OSError as error:
        raise ConfigError(
            f"{directory} cannot be written: {error.strerror}; mend that, or set {setting} to "
            "another place"
        ) from error


def _bound(address: Address, setting: str) -> str:
    try:
        family, kind, *_, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror}; set {setting} to another, or to port 0 "
            "for any free one"
        ) from error
    return f"{address} is free"


def _exposure(settings: config.Settings) -> str:
    addresses = (settings.server.grpc_address, settings.server.http_address)
    settings.security.check_exposed(*addresses)
    return "as the settings ask"


def _certificates(security: config.Security) -> str:
    files = access_of(security).tls
    if files is None:
        return "none: calls are in the clear"
    Certificates(files)
    return f"{files.certificate}" + ("" if files.client_ca is None else ", clients show theirs")


def _traces(tracing: config.Tracing) -> str:
    tracing_of(tracing).close()
    return f"to {tracing.endpoint}" if tracing.endpoint else "off"


def _upstream(settings: config.Settings) -> str:
    plan = inference_of(settings)
    if plan.upstream is None:
        return "none: the model runs here"
    name = plan.model or settings.model.name
    asyncio.run(_asked(plan.upstream, name, plan.version, settings.server.max_message_bytes))
    return f"{plan.upstream.address} is ready for {name}"


async def _asked(plan: UpstreamPlan, model: str, version: str, max_message_bytes: int) -> None:
    upstream = Upstream(plan, model=model, version=version, max_message_bytes=max_message_bytes)
    upstream.open()
    try:
        await upstream.check()
    finally:
        await upstream.close()


def _tokens(security: config.Security) -> str:
    if security.tokens is None:
        return "none: nobody is asked who calls"
    Principals.load(security.tokens)
    return f"{security.tokens} can be read"
