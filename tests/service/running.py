"""A real server over the tiny world, and the real clients that ask it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry
from torch import Tensor, nn

from mad.alerts.log import AlertLog
from mad.audit import AuditLog
from mad.baseline.store import BaselineStore
from mad.client import AsyncClient
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.service.alert_writer import UpkeepPlan
from mad.service.auth.guard import Access
from mad.service.clock import utc_now
from mad.service.oip.serving import InferencePlan
from mad.service.promotion.promoting import PromotionPlan
from mad.service.registry import Registry
from mad.service.server import Limits, Server
from mad.service.watch import WatchPlan
from tests.worlds import World, ordinary, strange

LIMITS = Limits(
    max_batch=8, max_request_inputs=64, max_queued_inputs=512, max_message_bytes=256 * 1024
)
POISON = 666.0
INNERMOST = "weights at 0xbeef"


@dataclass(frozen=True)
class Running:
    """A server that serves, with what a test looks at."""

    server: Server
    collectors: CollectorRegistry
    address: str
    client: AsyncClient
    channel: grpc.aio.Channel

    @property
    def queued(self) -> float:
        """Inputs that were accepted and are not answered."""
        return self.sample("mad_queue_depth", model="tiny")

    def sample(self, name: str, **labels: str) -> float:
        """Read one series as Prometheus would; 0 if it is not there."""
        return self.collectors.get_sample_value(name, labels) or 0.0


def build(  # noqa: PLR0913  # whatever a test wants otherwise
    world: World,
    directory: Path,
    *,
    collectors: CollectorRegistry,
    limits: Limits = LIMITS,
    watch: WatchPlan | None = None,
    access: Access | None = None,
    alert_log: AlertLog | None = None,
    upkeep: UpkeepPlan | None = None,
    promotion: PromotionPlan | None = None,
    inference: InferencePlan | None = None,
) -> Server:
    """Compose a server on a free port; nothing runs yet."""
    store = BaselineStore(directory / "baselines")
    store.save(world.baseline)
    monitor = Monitor.bind(world.model, world.decomposition, store.load("tiny"))
    metrics = Metrics(collectors, model="tiny", false_alarm_rates=[0.05])
    return Server(
        address="127.0.0.1:0",
        registry=Registry([monitor], default="tiny"),
        store=store,
        alert_log=alert_log or AlertLog.open(f"sqlite:///{directory}/alerts.db"),
        audit=AuditLog.open(directory / "audit.jsonl", clock=utc_now),
        metrics=metrics,
        limits=limits,
        upkeep=upkeep or UpkeepPlan(),
        watch=watch or WatchPlan(),
        access=access or Access(),
        promotion=promotion or PromotionPlan(),
        inference=inference or InferencePlan(),
    )


@asynccontextmanager
async def running(  # noqa: PLR0913  # whatever a test wants otherwise
    world: World,
    directory: Path,
    *,
    limits: Limits = LIMITS,
    access: Access | None = None,
    alert_log: AlertLog | None = None,
    upkeep: UpkeepPlan | None = None,
    promotion: PromotionPlan | None = None,
    inference: InferencePlan | None = None,
) -> AsyncIterator[Running]:
    """Serve on a free port until the test is over."""
    collectors = CollectorRegistry()
    server = build(
        world,
        directory,
        collectors=collectors,
        limits=limits,
        access=access,
        alert_log=alert_log,
        upkeep=upkeep,
        promotion=promotion,
        inference=inference,
    )
    address = f"127.0.0.1:{await server.start()}"
    try:
        async with AsyncClient(address) as client, grpc.aio.insecure_channel(address) as channel:
            yield Running(server, collectors, address, client, channel)
    finally:
        await server.drain(lame_duck_s=0, grace_s=1)


def live(count: int = 1, *, seed: int = 5) -> dict[str, Tensor]:
    """Return inputs like the trusted ones."""
    return {"x": ordinary(count, seed=seed)}


def anomalies(count: int = 1, *, seed: int = 6) -> dict[str, Tensor]:
    """Return inputs that raise alerts."""
    return {"x": strange(count, seed=seed)}


@dataclass
class Gate:
    """Holds the model before it runs, and notes what it was given."""

    opened: threading.Event = field(default_factory=threading.Event)
    sizes: list[int] = field(default_factory=list)

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Wait for the gate to open; die of poison."""
        self.sizes.append(len(inputs[0]))
        assert self.opened.wait(timeout=30)
        if (inputs[0] == POISON).any():
            raise RuntimeError(INNERMOST)


@contextmanager
def gated(world: World) -> Iterator[Gate]:
    """Put a gate, closed at first, before the world's model."""
    gate = Gate()
    handle = world.model.module.register_forward_pre_hook(gate)
    try:
        yield gate
    finally:
        gate.opened.set()
        handle.remove()


async def until(claim: Callable[[], bool]) -> None:
    """Wait for a claim to become true."""
    async with asyncio.timeout(20):
        while not claim():
            await asyncio.sleep(0.002)
