"""Servers and clients in processes of their own, and the processor time a server has used."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, final

import grpc

from mad.bench.transport.wire import METHOD
from mad.errors import ConfigError

PATIENCE_S: Final = 120.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME, _PARENT = 11, 12, 1
"""Places in what follows a process's name in its stat file: see proc(5)."""


@final
class Running:
    """A server under measurement: where it listens, and all its processes."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.target = f"127.0.0.1:{port}"

    def cpu_s(self) -> float:
        """Return the processor time of its process and all that it started, in seconds."""
        stats = dict(_stats())
        ours = {self._process.pid}
        # Children come to light in any order, so until no more do.
        while more := {pid for pid, one in stats.items() if one[_PARENT] in ours} - ours:
            ours |= more
        ticks = sum(stats[pid][_UTIME] + stats[pid][_STIME] for pid in ours if pid in stats)
        return ticks / _TICKS

    def await_answer(self, request: bytes) -> None:
        """Wait until it answers; ConfigError if it ends, or never does."""
        until = time.monotonic() + PATIENCE_S
        last = "nothing"
        with grpc.insecure_channel(self.target) as channel:
            ask: Any = channel.unary_unary(METHOD)
            while time.monotonic() < until and self._process.poll() is None:
                try:
                    ask(request, timeout=5, wait_for_ready=True)
                except grpc.RpcError as error:
                    last = repr(error)
                    time.sleep(0.2)
                else:
                    return
        raise ConfigError(
            f"the server at {self.target} does not answer: {self._process.args!r} "
            f"(exit status {self._process.poll()}), last {last}"
        )


@contextmanager
def serving(
    command: Sequence[str], port: int, *, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a server in a session of its own, and end all of it."""
    with subprocess.Popen(  # noqa: S603  # as the operator says
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            yield Running(process, port)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """Return the first of three free ports in a row: some servers take those after theirs."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if all(_is_free(port + step) for step in range(3)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _stats() -> Iterator[tuple[int, list[int]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # it has ended meanwhile
            # The name in brackets may hold anything, brackets too.
            state, *fields = text.rpartition(")")[2].split()
            yield int(entry.name), [ord(state), *map(int, fields[:13])]
