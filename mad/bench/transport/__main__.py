"""What a call costs a server beside its model: ours, MLServer's and Triton's, in one run.

Run as ``python -m mad.bench.transport``; with ``--mlserver-python PYTHON`` and ``--triton-python
PYTHON``, those of environments with mlserver and nvidia-pytriton, theirs are measured in turns with
ours. Every server echoes a tensor of 784 floats, over the same protocol, to the same client. What
counts is processor time of the server a call, all its processes together; times of one machine
compare with those of no other, so the figures to read are the ratios.

Ours is measured twice: echoing, as the others do, and scoring what it echoes with a small baseline.
Beside it stands the floor: grpc.aio that passes bytes back unread, in its event loop, and by way of
a thread, as a model has one; and the same by what our server listens with.
"""

import argparse
import array
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from mad.bench.transport.measure import MICRO, Case, Costs, costs, ratio
from mad.bench.transport.processes import Running, free_port, serving
from mad.bench.transport.wire import request
from mad.service.listening import known

WIDTH: Final = 784
AT_ONCE: Final = 8
ECHO, SCORED, STREAM = "mad, echo", "mad, scored", "mad, echo, streamed"
FLOOR, FLOOR_STREAM, THREAD = "grpc.aio alone", "grpc.aio, streamed", "grpc.aio and a thread"
CORE = "gRPC's core and a thread"
_HERE: Final = Path(__file__).parent


@contextmanager
def lined_up(
    width: int, *, mlserver_python: str | None, triton_python: str | None
) -> Iterator[Sequence[Case]]:
    """Start every server, and say what to measure."""
    content = array.array("f", [0.5] * width).tobytes()
    asked = request("echo", "x", [1, width], content)
    peers = {"MLServer": mlserver_python, "Triton (PyTriton)": triton_python}
    scripts = {"MLServer": "peer_mlserver.py", "Triton (PyTriton)": "peer_triton.py"}
    with ExitStack() as stack:

        def started(
            command: Sequence[str], environment: Mapping[str, str] | None = None
        ) -> Running:
            port = free_port()
            command = [*command, str(port), str(width)]
            server = stack.enter_context(serving(command, port, environment=environment))
            server.await_answer(asked)
            return server

        ours = [sys.executable, "-m", "mad.bench.transport.echo"]
        # As `mad serve` has it, which imports grpc later than these do.
        told = known.environment()
        echo, scored = started([*ours, "echo"], told), started([*ours, "scored"], told)
        floor = [sys.executable, "-m", "mad.bench.transport.floor"]
        loop, thread = started([*floor, "loop"]), started([*floor, "thread"])
        core = started([*floor, "core"], told)
        cases = [
            Case(ECHO, echo, asked, AT_ONCE),
            Case(STREAM, echo, asked, AT_ONCE, is_stream=True),
            Case(SCORED, scored, asked, AT_ONCE),
            Case(FLOOR, loop, asked, AT_ONCE),
            Case(FLOOR_STREAM, loop, asked, AT_ONCE, is_stream=True),
            Case(THREAD, thread, asked, AT_ONCE),
            Case(CORE, core, asked, AT_ONCE),
        ]
        for name, python in peers.items():
            if python:
                server = started([python, str(_HERE / scripts[name])])
                cases.append(Case(name, server, asked, AT_ONCE))
        yield cases


def show(measured: Costs, console: Console) -> None:
    """Print one row a case."""
    printed = Table(
        "server",
        "CPU us / call",
        "least",
        "calls / s",
        "median ms",
        "99 % ms",
        "mad's echo over it",
        title=f"{AT_ONCE} calls at once",
    )
    for name, found in measured.items():
        printed.add_row(
            name,
            f"{median(one.cpu_us for one in found):.0f}",
            f"{min(one.cpu_us for one in found):.0f}",
            f"{median(one.seen.calls / one.seen.seconds for one in found):.0f}",
            f"{median(one.seen.median_s for one in found) * MICRO / 1000:.2f}",
            f"{median(one.seen.p99_s for one in found) * MICRO / 1000:.2f}",
            f"{ratio(measured, ECHO, name):.2f}",
        )
    console.print(printed)
    console.print(
        f"A streamed message costs {ratio(measured, STREAM, ECHO):.2f} of a unary call; scoring "
        f"as well as echoing costs {ratio(measured, SCORED, ECHO):.2f} times echoing."
    )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlserver-python", help="Python of an environment with mlserver")
    parser.add_argument("--triton-python", help="Python of an environment with nvidia-pytriton")
    parser.add_argument("--calls", type=int, default=4000, help="calls of each measurement")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each server")
    chosen = parser.parse_args()
    with lined_up(
        WIDTH, mlserver_python=chosen.mlserver_python, triton_python=chosen.triton_python
    ) as cases:
        measured = costs(cases, calls=chosen.calls, rounds=chosen.rounds)
    show(measured, Console(width=140))


if __name__ == "__main__":
    main()
