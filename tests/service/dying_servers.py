"""Servers, and savers of baselines, that a test kills: children of one process that has it all.

Importing this takes seconds; a child of a process that has imported it starts in a fraction of one.
"""

import asyncio
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import torch
from prometheus_client import CollectorRegistry

from mad.alerts.log import AlertLog
from mad.audit import AuditLog
from mad.baseline.store import BaselineStore
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.service.clock import utc_now
from mad.service.registry import Registry
from mad.service.server import Server
from tests.service.running import LIMITS
from tests.stores import small
from tests.worlds import tiny_world

torch.set_num_threads(1)
WORLD: Final = tiny_world()


def serve(directory: Path, url: str, port: Connection) -> None:
    """Serve the tiny world until killed, and tell the port."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(directory, url, port))


async def _serve(directory: Path, url: str, port: Connection) -> None:
    store = BaselineStore(directory / "baselines")
    if not store.entries():
        store.save(WORLD.baseline)
    monitor = Monitor.bind(WORLD.model, WORLD.decomposition, store.load("tiny"))
    server = Server(
        address="127.0.0.1:0",
        registry=Registry([monitor], default="tiny"),
        store=store,
        alert_log=AlertLog.open(url),
        audit=AuditLog.open(directory / "audit.jsonl", clock=utc_now),
        metrics=Metrics(CollectorRegistry(), model="tiny", false_alarm_rates=[0.05]),
        limits=LIMITS,
    )
    port.send(await server.start())
    await asyncio.sleep(120)


def save(directory: Path, _url: str, begun: Connection) -> None:
    """Save and activate one baseline after the other until killed."""
    store = BaselineStore(directory / "baselines")
    begun.send(0)
    while True:
        store.save(small(WORLD))


Work = Callable[[Path, str, Connection], None]


def end(process: BaseProcess) -> None:
    """End a process at once, as ``kill -9`` does."""
    process.kill()
    process.join()
    process.close()
