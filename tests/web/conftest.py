"""A running HTTP server whose page shows whatever a test puts behind it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry

from mad.baseline.bundle import InputSpec, Manifest
from mad.errors import AlertLogError
from mad.metrics import Metrics
from mad.types import Alert, Charge, Explanation, Part, SetNeighbour, Verdict
from mad.web.application import View, application
from mad.web.server import HttpServer

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


def verdict(p_value: float, bits: float = 1.25) -> Verdict:
    return Verdict(bits, 0.75, 1.75, 310.0, p_value, p_value <= 0.01, (), -1, 16)


@dataclass
class Site:
    """What the page shows, to be changed by a test, and a client that looks at it."""

    metrics: Metrics
    client: httpx.Client
    alerts: list[Alert] = field(default_factory=list)
    baselines: list[Manifest] = field(default_factory=list)
    is_ready: bool = True
    alerts_problem: str = ""

    def latest(self, count: int) -> Sequence[Alert]:
        if self.alerts_problem:
            raise AlertLogError(self.alerts_problem)
        return self.alerts[:count]

    def page(self, query: str = "") -> str:
        response = self.client.get(f"/{query}")
        assert response.status_code == 200
        return response.text


@pytest.fixture
def make_site() -> Iterator[Callable[[str], Site]]:
    """Start a site that watches a model of some name."""
    with ExitStack() as stack:

        def start(model: str) -> Site:
            registry = CollectorRegistry()
            metrics = Metrics(registry, model=model, false_alarm_rates=(0.01,))
            client = stack.enter_context(httpx.Client(trust_env=False))
            site = Site(metrics, client)
            view = View(
                model=model,
                ready=lambda: site.is_ready,
                alerts=site.latest,
                baselines=lambda: site.baselines,
            )
            app = application(registry, view, clock=lambda: NOW)
            server = HttpServer(app, host="127.0.0.1", port=0)
            client.base_url = httpx.URL(f"http://127.0.0.1:{server.start()}")
            stack.callback(server.stop)
            return site

        yield start


@pytest.fixture
def site(make_site: Callable[[str], Site]) -> Site:
    return make_site("demo")
