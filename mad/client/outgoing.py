"""Requests of one asynchronous stream, on their way to the server."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TypeAlias

from mad.v1 import scoring_pb2 as pb

Requests: TypeAlias = Iterable[pb.ScoreRequest] | AsyncIterable[pb.ScoreRequest]


async def sent(requests: Requests, refused: asyncio.Event) -> AsyncIterator[pb.ScoreStreamRequest]:
    """Send until the server refuses: grpc.aio hides its last word behind a message on its way."""
    async for each in _each(requests):
        if refused.is_set():
            return
        yield pb.ScoreStreamRequest(request=each)


async def _each(requests: Requests) -> AsyncIterator[pb.ScoreRequest]:
    if isinstance(requests, AsyncIterable):
        async for each in requests:
            yield each
        return
    for each in requests:
        yield each
