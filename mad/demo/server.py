"""The real server in a process of its own: started on free ports, stopped by signal."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from mad.demo.folder import RunFolder
from mad.errors import ConfigError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@final
@dataclass(frozen=True)
class ServerProcess:
    """A server that answers on two ports of 127.0.0.1."""

    child: subprocess.Popen[bytes]
    grpc_port: int
    http_port: int

    @property
    def target(self) -> str:
        """Where a client connects."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def url(self) -> str:
        """Where metrics and the page are."""
        return f"http://127.0.0.1:{self.http_port}"

    def stop(self) -> int:
        """Ask it to drain and leave, as an orchestrator does, and return its exit status."""
        self.child.terminate()
        return self.child.wait(timeout=STOP_TIMEOUT_S)


def serve_command(folder: RunFolder) -> list[str]:
    """Return the command that serves the run folder at the addresses of its settings."""
    return [sys.executable, "-m", "mad.cli.main", "serve", str(folder.settings)]


@contextmanager
def serving(folder: RunFolder) -> Iterator[ServerProcess]:
    """Start the server and wait until it answers; it is gone when the block ends.

    Raises:
        ConfigError: it left, or said nothing for a minute; with its last words.
    """
    folder.ports.unlink(missing_ok=True)
    free_ports = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]
    command = [*serve_command(folder), *free_ports, "--ports-file", str(folder.ports)]
    with folder.server_log.open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603  # ours
    try:
        ports = _wait_for_ports(child, folder)
        yield ServerProcess(child, ports["grpc"], ports["http"])
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _wait_for_ports(child: "subprocess.Popen[bytes]", folder: RunFolder) -> dict[str, int]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while child.poll() is None and time.monotonic() < deadline:
        if folder.ports.is_file():
            ports: dict[str, int] = json.loads(folder.ports.read_text())
            return ports
        time.sleep(0.05)
    words = folder.server_log.read_text().strip().splitlines()[-1:]
    raise ConfigError(f"the server did not start; see {folder.server_log}: {' '.join(words)}")
