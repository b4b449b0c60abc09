"""The versions of gRPC's core that our server was tested on, and how they are told to listen.

Nothing here imports grpc: its core reads its environment while it is imported.
"""

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

KNOWN: Final = ((1, 71), (1, 85))
"""The oldest and the newest grpcio whose core our server was tested on."""

_EXPERIMENTS: Final = "GRPC_EXPERIMENTS"
_LISTENING: Final = "-event_engine_listener"
"""Sockets are read by the thread that waits for the core's events, rather than by threads of the
core that then wake it: a tenth to a fifth less processor time a call, more a streamed message."""


def is_known(grpcio: str) -> bool:
    """Tell whether a version's core is one that our server was tested on."""
    major, minor, *_ = grpcio.split(".")
    oldest, newest = KNOWN
    return oldest <= (int(major), int(minor)) <= newest


def is_installed() -> bool:
    """Tell whether the grpcio that is installed is a known one."""
    try:
        return is_known(version("grpcio"))
    except PackageNotFoundError:  # as where an application carries its packages in one file
        return False


def environment() -> Mapping[str, str]:
    """Return what a known core is told; nothing for others, which would complain of what they miss.

    It is one comma-separated list, so an operator who has set it has said all of it.
    """
    return {_EXPERIMENTS: _LISTENING} if is_installed() else {}


def tell() -> None:
    """Tell the core, unless the operator has; of no effect once grpc is imported."""
    for name, value in environment().items():
        os.environ.setdefault(name, value)
