"""The event loop a server runs on: libuv's where there is one, which costs a call a fifth less."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

try:
    from uvloop import new_event_loop
except ModuleNotFoundError:  # as on Windows
    new_event_loop: "Callable[[], asyncio.AbstractEventLoop] | None" = None  # type: ignore[no-redef]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, as ``asyncio.run``."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)
