"""Send one plan to one server, and divide the processor time it used by the calls it answered."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final, TypeAlias, final

from mad.bench.transport.load import Plan, Seen
from mad.bench.transport.processes import Running
from mad.errors import ConfigError

MICRO: Final = 1e6


@final
@dataclass(frozen=True)
class Case:
    """Something to measure: a server, the request it understands, and how it is sent."""

    name: str
    server: Running
    request: bytes
    at_once: int
    is_stream: bool = False


@final
@dataclass(frozen=True)
class Cost:
    """One measurement: processor time of the server a call, and what the client saw."""

    cpu_us: float
    seen: Seen


TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
"""The system counts processor time in these: less than one is taken for one."""

Costs: TypeAlias = Mapping[str, Sequence[Cost]]
"""By case, one a round; the n-th of each were measured right after each other."""


def costs(cases: Sequence[Case], *, calls: int, rounds: int) -> Costs:
    """Measure every case in turn, again and again: a busy machine is then busy for all."""
    found: dict[str, list[Cost]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            found[case.name].append(cost(case, calls=calls))
    return found


def cost(case: Case, *, calls: int) -> Cost:
    """Measure one case once; ConfigError if its client fails."""
    plan = Plan(
        request=base64.b64encode(case.request).decode(),
        calls=calls,
        at_once=case.at_once,
        is_stream=case.is_stream,
    )
    command = [sys.executable, "-m", "mad.bench.transport.load", case.server.target]
    with subprocess.Popen(  # noqa: S603  # our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        print(json.dumps(asdict(plan)), file=client.stdin, flush=True)
        if client.stdout.readline() != "ready\n":
            raise ConfigError(f"the client of {case.name} failed; its error is above")
        before = case.server.cpu_s()
        print("go", file=client.stdin, flush=True)
        answer = client.stdout.readline()
        used = max(case.server.cpu_s() - before, TICK_S)
    if not answer:
        raise ConfigError(f"the client of {case.name} failed; its error is above")
    seen = Seen(**json.loads(answer))
    return Cost(used / seen.calls * MICRO, seen)


def ratio(measured: Costs, ours: str, theirs: str) -> float:
    """Return the median over rounds of one case's processor time over another's."""
    pairs = zip(measured[ours], measured[theirs], strict=True)
    return median(one.cpu_us / other.cpu_us for one, other in pairs)
