"""What a serving process does once, for every call: gRPC's core, its event loop, its memory."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from mad.service.listening import known
from mad.service.listening.loop import CoreLoop

try:
    from uvloop import new_event_loop
except ModuleNotFoundError:  # as on Windows
    new_event_loop: "Callable[[], asyncio.AbstractEventLoop] | None" = None  # type: ignore[no-redef]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, as ``asyncio.run``, on a loop that can wait for gRPC's core.

    gRPC's core is told how to listen, which it hears if ``main`` is what first imports it.
    """
    known.tell()
    with asyncio.Runner(loop_factory=_loop()) as runner:
        runner.run(main)


def _loop() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """Return what makes the loop: libuv's where the core is none that ours can wait for."""
    if known.is_installed() and sys.platform != "win32":
        return CoreLoop
    return new_event_loop


def keep_loaded() -> None:
    """Have the garbage collector look no more at what is there now, which is to stay.

    A full collection stops every call. Of the 400,000 objects that torch and gRPC alone make it
    takes a third of a second, and finds nothing.
    """
    gc.collect()
    gc.freeze()
