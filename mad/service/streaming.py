"""Answer the requests of one stream as they come, several at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, final

from mad.errors import ShuttingDownError

LINGER_S: Final = 0.25
"""How long a stream that is to end is still read from. grpc.aio's client reports INTERNAL for a
stream that ends under a message on its way, and its caller never learns why it ended."""

Request = TypeVar("Request")
Response = TypeVar("Response")


def _alone(requests: Sequence[Request]) -> Iterable[Sequence[Request]]:
    return [[request] for request in requests]


async def answered(
    requests: AsyncIterator[Request],
    answer: Callable[[Sequence[Request]], Coroutine[Any, Any, Sequence[Response]]],
    *,
    at_once: int,
    draining: asyncio.Event,
    in_order: bool = False,
    groups: Callable[[Sequence[Request]], Iterable[Sequence[Request]]] = _alone,
) -> AsyncIterator[Response]:
    """Yield answers as they are ready, or in the order of their requests, ``at_once`` in hand.

    ``groups`` says which of the requests that have come together ``answer`` is given at once; it
    returns their answers in their order. A caller that does not take its answers is not read from.
    Once ``draining`` is set, ``answer`` is to refuse what still comes, so that its caller stops
    sending; the stream ends with ShuttingDownError when that has happened, or a moment later.
    """
    hand = _Hand(answer, groups, at_once=at_once, in_order=in_order)
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
    """The requests of one stream that are being answered: a task for those that came together."""

    def __init__(
        self,
        answer: Callable[[Sequence[Request]], Coroutine[Any, Any, Sequence[Response]]],
        groups: Callable[[Sequence[Request]], Iterable[Sequence[Request]]],
        *,
        at_once: int,
        in_order: bool,
    ) -> None:
        self.running: dict[asyncio.Task[Sequence[Response]], int] = {}
        self.news = asyncio.Event()
        self._answer = answer
        self._groups = groups
        self._at_once = at_once
        self._in_order = in_order
        self._count = 0
        self._finished: deque[asyncio.Task[Sequence[Response]]] = deque()
        self._room = asyncio.Event()

    def tell(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside, whose end is news."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self.news.set())
        return task

    async def read(self, requests: AsyncIterator[Request]) -> None:
        """Take requests in hand as they come, as long as there is room."""
        async for request in requests:
            # Only what needs no waiting, so nothing that was read can be lost by a cancellation.
            together = [request, *_more(requests, self._at_once - self._count - 1)]
            for group in self._groups(together):
                self._take(group)
            while self._count >= self._at_once:
                self._room.clear()
                await self._room.wait()

    def answers(self) -> Iterator[Response]:
        """Hand over the answers that are there and whose turn it is."""
        while task := self._next():
            self._count -= self.running.pop(task)
            self._room.set()
            yield from task.result()

    def _take(self, together: Sequence[Request]) -> None:
        task = asyncio.create_task(self._answered(together))
        self.running[task] = len(together)
        self._count += len(together)

    async def _answered(self, together: Sequence[Request]) -> Sequence[Response]:
        try:
            return await self._answer(together)
        finally:
            self._ended()

    def _ended(self) -> None:
        """Note that the running task ends: it will have when others run.

        A callback of the task would take a turn of the loop.
        """
        task = asyncio.current_task()
        assert task is not None
        self._finished.append(task)
        self.news.set()

    def _next(self) -> asyncio.Task[Sequence[Response]] | None:
        if not self._in_order:
            return self._finished.popleft() if self._finished else None
        self._finished.clear()
        oldest = next(iter(self.running), None)
        return oldest if oldest and oldest.done() else None


def _more(requests: AsyncIterator[Request], most: int) -> Sequence[Request]:
    """Return the requests, at most so many, that can be read without waiting."""
    take: Callable[[int], Sequence[Request]] | None = getattr(requests, "take", None)
    return take(most) if take is not None else ()


async def _lingered(draining: asyncio.Event) -> None:
    await draining.wait()
    await asyncio.sleep(LINGER_S)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
