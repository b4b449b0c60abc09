"""Three times the load a server can carry: it answers nearly as much as it can, and in time."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mad.client import AsyncClient
from tests.reliability.load import OpenLoop, outcomes
from tests.reliability.processes import MIB, Served, serving
from tests.reliability.serving import Plan
from tests.service.running import live

# So slow a model leaves the processors to those who refuse and are refused, and to others.
INPUT_S = 0.02
DEADLINE_S = 0.5
SECONDS = 10.0
REFUSED_S = 0.01
GOODPUT = 0.8
LATE = 0.01


async def capacity(address: str, *, seconds: float = 3.0) -> float:
    """Measure how many calls a second are answered when there is always one waiting."""
    counts = 0
    async with AsyncClient(address) as client:
        stop = time.monotonic() + seconds

        async def caller() -> None:
            nonlocal counts
            while time.monotonic() < stop:
                await client.score(live(1))
                counts += 1

        await asyncio.gather(*(caller() for _ in range(24)))
    return counts / seconds


@contextmanager
def watched(served: Served) -> Iterator[list[int]]:
    """Ask for the server's health before and after."""
    seen: list[int] = []
    with grpc.insecure_channel(served.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for answer in stub.Watch(health_pb2.HealthCheckRequest(service="")):
            seen.append(answer.status)
            break
        yield seen
        seen.append(stub.Check(health_pb2.HealthCheckRequest(service="")).status)


@dataclass(frozen=True)
class Run:
    """What came of three times the load a server can carry."""

    capacity: float
    codes: Counter[str]
    expired: float
    refused_s: float
    health: list[int]
    grown_bytes: int

    @property
    def goodput(self) -> float:
        """Answers, as a share of what the server can answer."""
        return self.codes["OK"] / (self.capacity * SECONDS)

    @property
    def late(self) -> float:
        """Of what the server took on, the share that its callers gave up."""
        return self.expired / (self.codes["OK"] + self.expired)


def overloaded(directory: Path) -> Run:
    """Put three times its capacity on a server whose model takes a known time."""
    with serving(directory, Plan(input_s=INPUT_S)) as served:
        most = asyncio.run(capacity(served.address))
        grown = -served.rss_bytes
        load = OpenLoop(
            address=served.address, per_s=3 * most, seconds=SECONDS, deadline_s=DEADLINE_S
        )
        with watched(served) as health:
            found = outcomes(load)
        most = min(most, asyncio.run(capacity(served.address)))
        grown += served.rss_bytes
        expired = sum(
            served.sample("grpc_server_handled_total", grpc_method="Score", grpc_code=code)
            for code in ("DEADLINE_EXCEEDED", "CANCELLED")
        )
    refused = [one.seconds for one in found if one.code == "RESOURCE_EXHAUSTED"]
    codes = Counter(outcome.code for outcome in found)
    return Run(most, codes, expired, statistics.median(refused), health, grown)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_at_three_times_its_capacity_a_server_answers_in_time_what_it_takes_on(
    tmp_path: Path,
) -> None:
    runs = []
    # What else runs on the machine makes it worse and never better, so one good run of three is
    # enough; what time has nothing to do with must hold in each.
    for attempt in range(3):
        runs.append(run := overloaded(tmp_path / str(attempt)))
        assert run.codes.keys() <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
        assert set(run.health) == {health_pb2.HealthCheckResponse.SERVING}
        assert run.grown_bytes < 50 * MIB
        if run.goodput >= GOODPUT and run.late <= LATE and run.refused_s < REFUSED_S:
            return
    pytest.fail("\n".join(f"goodput {run.goodput:.2f}, late {run.late:.3f}, {run}" for run in runs))
