"""Answer the requests of one stream as they come, several at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, Generic, TypeVar, final

from mad.errors import ShuttingDownError

LINGER_S: Final = 0.25
"""How long a stream that is to end is still read from. grpc.aio's client reports INTERNAL for a
stream that ends under a message on its way, and its caller never learns why it ended."""

Request = TypeVar("Request")
Response = TypeVar("Response")


async def answered(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Coroutine[Any, Any, Response]],
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
    hand = _Hand(answer, at_once=at_once, in_order=in_order)
    drain, reading = hand.tell(_lingered(draining)), hand.tell(hand.read(requests))
    try:
        while True:
            for response in hand.answers():
                yield response
            if drain.done():
                reading.cancel()
            elif reading.done():
                reading.result()  # what could not be read ends the stream
            if not hand.running and (drain.done() or reading.done()):
                break
            await hand.news.wait()
            hand.news.clear()
    finally:
        await _cancel(drain, reading, *hand.running)
    check_open(draining)


def check_open(draining: asyncio.Event) -> None:
    """Raise ShuttingDownError once the server drains."""
    if draining.is_set():
        raise ShuttingDownError("the server is shutting down; open the stream to another replica")


@final
class _Hand(Generic[Request, Response]):
    """The requests of one stream that are being answered: one task each, and nothing else."""

    def __init__(
        self,
        answer: Callable[[Request], Coroutine[Any, Any, Response]],
        *,
        at_once: int,
        in_order: bool,
    ) -> None:
        self.running: dict[asyncio.Task[Response], None] = {}
        self.news = asyncio.Event()
        self._answer = answer
        self._at_once = at_once
        self._in_order = in_order
        self._finished: deque[asyncio.Task[Response]] = deque()
        self._room = asyncio.Event()

    def tell(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside, whose end is news."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self.news.set())
        return task

    async def read(self, requests: AsyncIterator[Request]) -> None:
        """Take requests in hand as they come, as long as there is room."""
        async for request in requests:
            task = asyncio.create_task(self._answer(request))
            self.running[task] = None
            task.add_done_callback(self._ended)
            while len(self.running) >= self._at_once:
                self._room.clear()
                await self._room.wait()

    def answers(self) -> Iterator[Response]:
        """Hand over the answers that are there and whose turn it is."""
        while task := self._next():
            del self.running[task]
            self._room.set()
            yield task.result()

    def _next(self) -> asyncio.Task[Response] | None:
        if not self._in_order:
            return self._finished.popleft() if self._finished else None
        self._finished.clear()
        oldest = next(iter(self.running), None)
        return oldest if oldest and oldest.done() else None

    def _ended(self, task: asyncio.Task[Response]) -> None:
        self._finished.append(task)
        self.news.set()


async def _lingered(draining: asyncio.Event) -> None:
    await draining.wait()
    await asyncio.sleep(LINGER_S)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
