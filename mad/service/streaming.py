"""Answer the requests of one stream as they come, several at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from mad.errors import ShuttingDownError

LINGER_S: Final = 0.25
"""How long a stream that is to end is still read from. grpc.aio's client reports INTERNAL for a
stream that ends under a message on its way, and its caller never learns why it ended."""

Request = TypeVar("Request")
Response = TypeVar("Response")
Value = TypeVar("Value")


async def answered(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Awaitable[Response]],
    *,
    at_once: int,
    draining: asyncio.Event,
    in_order: bool = False,
) -> AsyncIterator[Response]:
    """Yield answers as they are ready, or in the order of their requests, ``at_once`` in hand.

    A caller that does not take its answers is not read from. Once ``draining`` is set, ``answer``
    is to refuse what still comes, so that its caller stops sending; the stream ends with
    ShuttingDownError when that has happened, or a moment later.
    """
    finished: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
    running: dict[asyncio.Task[Response], None] = {}
    drain = _launch(_lingered(draining), finished)
    reading: asyncio.Task[Request | None] | None = _launch(anext(requests, None), finished)
    is_open = True
    try:
        while is_open or running:
            task = await finished.get()
            is_open = is_open and not drain.done()
            if task in running:
                while ready := _deliverable(running, task, in_order=in_order):
                    del running[ready]
                    yield ready.result()
            elif task is reading:
                reading = None
                request: Request | None = task.result()
                is_open = is_open and request is not None
                if request is not None:
                    running[_launch(answer(request), finished)] = None
            if is_open and reading is None and len(running) < at_once:
                reading = _launch(anext(requests, None), finished)
    finally:
        await _cancel(drain, *running, *([reading] if reading else []))
    check_open(draining)


def check_open(draining: asyncio.Event) -> None:
    """Raise ShuttingDownError once the server drains."""
    if draining.is_set():
        raise ShuttingDownError("the server is shutting down; open the stream to another replica")


def _deliverable(
    running: Mapping[asyncio.Task[Response], None],
    finished: asyncio.Task[Response],
    *,
    in_order: bool,
) -> asyncio.Task[Response] | None:
    """Return whose answer comes next, if it is there, now that a task has finished."""
    if not in_order:
        return finished if finished in running else None
    oldest = next(iter(running), None)
    return oldest if oldest and oldest.done() else None


async def _lingered(draining: asyncio.Event) -> None:
    await draining.wait()
    await asyncio.sleep(LINGER_S)


def _launch(
    work: Awaitable[Value], finished: asyncio.Queue[asyncio.Task[Any]]
) -> asyncio.Task[Value]:
    async def run() -> Value:
        return await work

    task = asyncio.create_task(run())
    task.add_done_callback(finished.put_nowait)
    return task


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
