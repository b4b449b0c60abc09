"""What a server process runs: the tiny world over gRPC and HTTP, until SIGTERM drains it."""

import asyncio
import signal
import time
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from torch import nn

from mad.cli.watching import behind_of
from mad.service import process
from mad.service.oip.serving import InferencePlan
from mad.service.server import Limits
from mad.web.application import application
from mad.web.server import HttpServer
from tests.service.running import LIMITS, build
from tests.worlds import World, tiny_world


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one server is to be: ``input_s`` is how long its model takes for an input, at least."""

    limits: Limits = LIMITS
    input_s: float = 0.0
    port: int = 0
    lame_duck_s: float = 0.3
    grace_s: float = 10.0
    inference: InferencePlan = field(default_factory=InferencePlan)


@cache
def world() -> World:
    """Return the world that every server of one fork server shares."""
    return tiny_world()


def serve(directory: Path, plan: Plan, told: Connection) -> None:
    """Serve until SIGTERM; tell the ports of gRPC and HTTP."""
    if plan.input_s:
        world().model.module.register_forward_pre_hook(_Slow(plan.input_s))
    process.run(_serve(directory, plan, told))


async def _serve(directory: Path, plan: Plan, told: Connection) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    collectors = CollectorRegistry()
    server = build(
        world(),
        directory,
        collectors=collectors,
        limits=plan.limits,
        inference=plan.inference,
    )
    server.address = f"127.0.0.1:{plan.port}"
    behind = behind_of(server, is_serving=lambda: True, is_open=True)
    http = HttpServer(application(collectors, behind), host="127.0.0.1", port=0)
    told.send((await server.start(), http.start()))
    process.keep_loaded()
    await stopped.wait()
    await server.drain(lame_duck_s=plan.lame_duck_s, grace_s=plan.grace_s)
    http.stop()


@dataclass(frozen=True)
class _Slow:
    """Makes a model take a known time."""

    input_s: float

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Sleep as long as these inputs are to take."""
        time.sleep(self.input_s * len(inputs[0]))
