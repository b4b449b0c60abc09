"""What a serving process does once, for every call: gRPC's core, its event loop, its memory."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

from mad.service.listening import known

try:
    from uvloop import new_event_loop
except ModuleNotFoundError:  # as on Windows
    new_event_loop: "Callable[[], asyncio.AbstractEventLoop] | None" = None  # type: ignore[no-redef]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, as ``asyncio.run``, on libuv's loop where there is one.

    gRPC's core is told how to listen, which it hears if ``main`` is what first imports it.
    """
    known.tell()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def keep_loaded() -> None:
    """Have the garbage collector look no more at what is there now, which is to stay.

    A full collection stops every call. Of the 400,000 objects that torch and gRPC alone make it
    takes a third of a second, and finds nothing.
    """
    gc.collect()
    gc.freeze()
