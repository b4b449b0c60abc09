"""One stream of scores that is kept open over drains and restarts, for asyncio."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self, final

import grpc

from mad.client.messages import Scored, as_request
from mad.client.unanswered import RequestError, Unanswered, Waiting, closed
from mad.v1 import scoring_pb2 as pb

if TYPE_CHECKING:
    from grpc.aio import StreamStreamMultiCallable

_Requests = asyncio.Queue[pb.ScoreStreamRequest | None]


@final
class AsyncScoreStream:
    """The same as ``ScoreStream``, for any number of tasks of one event loop."""

    def __init__(
        self,
        open_call: "StreamStreamMultiCallable[pb.ScoreStreamRequest, pb.ScoreStreamResponse]",
        *,
        in_flight: int,
        timeout_s: float,
    ) -> None:
        self._open_call = open_call
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(in_flight)
        self._unanswered: Unanswered[asyncio.Future[pb.ScoreResponse]] = Unanswered()
        self._outgoing: _Requests = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def score(
        self,
        inputs: Scored | pb.ScoreRequest,
        *,
        baseline: str = "",
        options: pb.ScoreOptions | None = None,
    ) -> pb.ScoreResponse:
        """Score as ``AsyncClient.score`` does; raises RequestError, a ``grpc.RpcError``."""
        message = as_request(inputs, baseline, options)
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                return await self._asked(message)
        except TimeoutError as error:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer in {self._timeout_s:g} s"
            ) from error

    async def close(self) -> None:
        """Wait for the answers under way, as long as one may take, and end the stream."""
        self._is_closed = True
        self._outgoing.put_nowait(None)
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=self._timeout_s)
            self._reader.cancel()
        self._unanswered.fail(closed())

    async def _asked(self, message: pb.ScoreRequest) -> pb.ScoreResponse:
        if self._is_closed:
            raise closed()
        answer: asyncio.Future[pb.ScoreResponse] = asyncio.get_running_loop().create_future()
        self._outgoing.put_nowait(self._unanswered.add(message, answer))
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            return await answer
        finally:
            self._unanswered.forget(message.request_id)

    async def _read(self) -> None:
        """Keep a stream open while somebody waits."""
        while True:
            outgoing = self._outgoing = asyncio.Queue()
            for again in self._unanswered.requests():
                outgoing.put_nowait(again)
            if self._is_closed:
                outgoing.put_nowait(None)
            code, details = await self._once(outgoing)
            if not self._unanswered.ended(code, details):
                return
            await asyncio.sleep(self._unanswered.pause_s())

    async def _once(self, outgoing: _Requests) -> tuple[grpc.StatusCode, str]:
        """Read one stream to its end, and return how it ended."""
        try:
            call = self._open_call(_each(outgoing))
        except grpc.aio.UsageError as error:  # its owner closed the channel first
            return grpc.StatusCode.CANCELLED, str(error)
        try:
            async for message in call:
                again = self._unanswered.answered(message)
                if again is not None:
                    self._later(outgoing, again)
        except grpc.aio.AioRpcError as error:
            return error.code(), str(error.details())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # A channel that its owner closed ends its calls so, and nobody asked this task to stop.
            return grpc.StatusCode.CANCELLED, "the channel is closed"
        finally:
            call.cancel()
        return grpc.StatusCode.OK, "the server ended the stream"

    def _later(self, outgoing: _Requests, again: Waiting[asyncio.Future[pb.ScoreResponse]]) -> None:
        message = pb.ScoreStreamRequest(request=again.request)
        pause_s = self._unanswered.pause_s(again.attempts)
        asyncio.get_running_loop().call_later(pause_s, outgoing.put_nowait, message)


async def _each(outgoing: _Requests) -> AsyncIterator[pb.ScoreStreamRequest]:
    while (message := await outgoing.get()) is not None:
        yield message
