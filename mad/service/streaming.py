"""Answer the requests of one stream as they come, several at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from mad.errors import ShuttingDownError

Request = TypeVar("Request")
Response = TypeVar("Response")
Value = TypeVar("Value")


async def answered(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Awaitable[Response]],
    *,
    at_once: int,
    draining: asyncio.Event,
) -> AsyncIterator[Response]:
    """Yield answers in the order they are ready, with at most ``at_once`` requests in hand.

    A caller that does not take its answers is not read from. Once ``draining`` is set, what is in
    hand is answered and the stream ends with ShuttingDownError.
    """
    finished: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
    running: set[asyncio.Task[Response]] = set()
    drain = _launch(draining.wait(), finished)
    reading: asyncio.Task[Request | None] | None = _launch(anext(requests, None), finished)
    is_open = True
    try:
        while is_open or running:
            task = await finished.get()
            if task in running:
                running.remove(task)
                yield task.result()
            elif task is reading:
                reading = None
                request: Request | None = task.result()
                is_open = is_open and request is not None
                if request is not None:
                    running.add(_launch(answer(request), finished))
            elif task is drain:
                is_open = False
            if is_open and reading is None and len(running) < at_once:
                reading = _launch(anext(requests, None), finished)
    finally:
        await _cancel(drain, *running, *([reading] if reading else []))
    if draining.is_set():
        raise ShuttingDownError("the server is shutting down; open the stream to another replica")


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
