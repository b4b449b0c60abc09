"""Servers in processes of their own, so that signals, memory and crashes are real."""

import multiprocessing
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import prometheus_client.parser

from tests.reliability.serving import Plan, serve

FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.reliability.preloaded"])
START_S: Final = 60.0
MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Served:
    """A server that serves, in a process of its own."""

    process: BaseProcess
    address: str
    http: str

    def sample(self, name: str, **labels: str) -> float:
        """Read the sum of all series of a name and labels, as Prometheus would."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=20) as page:
            families = prometheus_client.parser.text_string_to_metric_families(page.read().decode())
            return sum(
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )

    @property
    def rss_bytes(self) -> int:
        """Memory it holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak_bytes(self) -> int:
        """Most memory it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return 1024 * int(line.split()[1])

    @property
    def open_files(self) -> int:
        """File descriptors it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def terminate(self) -> None:
        """Send SIGTERM, as an orchestrator does."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGTERM)

    def exit_code(self, timeout_s: float) -> int | None:
        """Wait for the process to end; None if it has not by then."""
        self.process.join(timeout_s)
        return self.process.exitcode


@contextmanager
def serving(directory: Path, plan: Plan = Plan()) -> Iterator[Served]:  # noqa: B008  # frozen
    """Serve from a directory until the test is over."""
    directory.mkdir(exist_ok=True)
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=serve, args=(directory, plan, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(START_S), "the server did not start"
        grpc_port, http_port = ours.recv()
        yield Served(process, f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}")
    finally:
        ours.close()
        process.kill()
        process.join()
