"""Ports that nobody has, for programs that are told theirs."""

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """Return different ports that were free a moment ago."""
    with ExitStack() as probes:
        found = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in found:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in found]
