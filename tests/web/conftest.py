"""A running HTTP server whose page shows whatever a test puts behind it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry

from mad.alerts.values import Acknowledgement, Incident, Mechanism, Recorded, Wanted
from mad.baseline.bundle import Baseline, InputSpec, Manifest
from mad.baseline.store import Entry
from mad.errors import AlertLogError, NotFoundError, ShuttingDownError
from mad.metrics import Metrics
from mad.rendering.base import Shown
from mad.types import Alert, Charge, Explanation, Part, SetNeighbour, Verdict
from mad.web.application import application
from mad.web.behind import Behind, Entrance, View, Visitor
from mad.web.server import HttpServer
from tests.worlds import tiny_world

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)

MANIFEST = Manifest(
    name="default",
    version=3,
    created=datetime(2026, 2, 28, 9, tzinfo=UTC),
    model_name="demo",
    model_fingerprint="9f1c" * 16,
    decomposition_fingerprint="77ab" * 16,
    sites=("act1",),
    inputs=(InputSpec("image", "uint8", (28, 28)),),
    context="predicted",
    activity="magnitude",
    fit_inputs=3600,
    weighing_inputs=900,
    reference_inputs=1500,
    false_alarm_rate=0.01,
    alert_on="surprise",
    by_context=False,
    median_bits=1.02,
    threshold_bits=6.71,
    seed=0,
    library_versions={"torch": "2.13.0"},
)

ALERT = Alert(
    alert_id="alert-1",
    time=datetime(2026, 3, 1, 12, 29, 58, tzinfo=UTC),
    model="demo",
    baseline="default",
    version=3,
    request_id="camera-12",
    input_index=4,
    input_digest="c0ffee" * 10,
    verdict=Verdict(
        surprise_bits=11.3,
        mechanism_bits=12.6,
        novelty_bits=0.4,
        description_bits=512.5,
        p_value=0.0004,
        is_alert=True,
        parts=(Part("act1", "set", 480.5, 12.1, 390.25), Part("act1", "residual", 32.0, 0.7)),
        context=7,
        active_components=16,
    ),
    explanation=Explanation(
        (
            Charge("act1", "set", 41, 90.5, 0.4, 2.5, 0.0003),
            Charge("act1", "set", 7, 12.0, 0.1, 0.0, 0.98),
            Charge("act1", "residual", 3, 5.0, 1.0, -0.5, None),
        ),
        405.0,
        {"act1": SetNeighbour(1234, 0.4, (7, 9, 11), (3,), (41,))},
    ),
)


INCIDENT = Incident(
    incident_id="incident-1",
    model="demo",
    baseline="default",
    context=7,
    profile=((Mechanism("act1", "set", 41), 0.7), (Mechanism("act1", "residual", 3), 0.2)),
    alerts=1200,
    first_time=datetime(2026, 3, 1, 11, tzinfo=UTC),
    last_time=datetime(2026, 3, 1, 12, 29, 58, tzinfo=UTC),
    last_sequence=1300,
    most_surprise_bits=11.3,
    representative_alert_id="alert-1",
    is_open=True,
)


def verdict(p_value: float, bits: float = 1.25) -> Verdict:
    return Verdict(bits, 0.75, 1.75, 310.0, p_value, p_value <= 0.01, (), -1, 16)


class NoActions:
    """Nothing can be done where no server runs."""

    def acknowledge(self, credential: bytes, **_: object) -> None:
        raise ShuttingDownError(credential.hex())

    def promote(self, credential: bytes, revision: str, expected: int | None) -> None:
        raise ShuttingDownError(f"{credential.hex()} {revision} {expected}")

    def go_back(self, credential: bytes, name: str, expected: int | None) -> None:
        raise ShuttingDownError(f"{credential.hex()} {name} {expected}")


@dataclass
class Site:
    """What the page shows, to be changed by a test, and a client that looks at it."""

    metrics: Metrics
    client: httpx.Client
    fitted: Baseline
    alerts: list[Alert] = field(default_factory=list)
    said: dict[str, Acknowledgement] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    baselines: list[Manifest] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    trusted: Callable[[str, int, Sequence[int]], Mapping[int, Shown]] = lambda *_: {}
    is_ready: bool = True
    alerts_problem: str = ""

    def page(self, path: str = "/", *, status: int = 200) -> str:
        """Return the text of a page."""
        response = self.client.get(path)
        assert response.status_code == status
        return response.text

    def behind(self, model: str) -> Behind:
        """Return what is behind the page: somebody may read who need not sign in."""
        entrance = Entrance(
            is_asking=lambda: False,
            credential=lambda _: b"",
            visitor=lambda credential: Visitor("", credential, frozenset({"read"})),
        )
        return Behind(self.view(model), entrance, NoActions())

    def view(self, model: str) -> View:
        """Return what the page shows."""
        return View(
            model=model,
            ready=lambda: self.is_ready,
            alerts=self._listed,
            alert=self._one,
            incidents=lambda most: self.incidents[:most],
            baselines=lambda: [replace(self.fitted, manifest=one) for one in self.baselines],
            versions=lambda name: [one for one in self.entries if one.manifest.name == name],
            trusted=self._trusted,
        )

    def _trusted(self, name: str, version: int, rows: Sequence[int]) -> Mapping[int, Shown]:
        return self.trusted(name, version, rows)

    def _listed(self, wanted: Wanted, size: int, token: str) -> tuple[Sequence[Recorded], str]:
        self._fail()
        found = [one for one in self.alerts if wanted.baseline in ("", one.baseline)]
        start = int(token or 0)
        after = str(start + size) if len(found) > start + size else ""
        return [self._recorded(one) for one in found[start : start + size]], after

    def _one(self, alert_id: str) -> Recorded:
        self._fail()
        for alert in self.alerts:
            if alert.alert_id == alert_id:
                return self._recorded(alert)
        raise NotFoundError(f"there is no alert {alert_id!r}")

    def _recorded(self, alert: Alert) -> Recorded:
        place = self.alerts.index(alert)
        return Recorded(len(self.alerts) - place, alert, "", self.said.get(alert.alert_id))

    def _fail(self) -> None:
        if self.alerts_problem:
            raise AlertLogError(self.alerts_problem)


@pytest.fixture(scope="session")
def fitted() -> Baseline:
    """Return a baseline of the tiny world."""
    return tiny_world().baseline


@pytest.fixture
def make_site(fitted: Baseline) -> Iterator[Callable[[str], Site]]:
    """Start a site that watches a model of some name."""
    with ExitStack() as stack:

        def start(model: str) -> Site:
            registry = CollectorRegistry()
            metrics = Metrics(registry, model=model, false_alarm_rates=(0.01,))
            client = stack.enter_context(httpx.Client(trust_env=False))
            site = Site(metrics, client, fitted)
            app = application(registry, site.behind(model), clock=lambda: NOW)
            server = HttpServer(app, host="127.0.0.1", port=0)
            client.base_url = httpx.URL(f"http://127.0.0.1:{server.start()}")
            stack.callback(server.stop)
            return site

        yield start


@pytest.fixture
def site(make_site: Callable[[str], Site]) -> Site:
    return make_site("demo")
