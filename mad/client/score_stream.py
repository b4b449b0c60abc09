"""One stream of scores that is kept open over drains and restarts, for threads."""

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Self, final

import grpc

from mad.client.messages import Scored, as_request
from mad.client.unanswered import RequestError, Unanswered, Waiting, closed
from mad.v1 import scoring_pb2 as pb

_Requests = SimpleQueue[pb.ScoreStreamRequest | None]


@final
class ScoreStream:
    """Scores over one stream, from any number of threads.

    Requests are matched by id, and sent again, over a stream that is opened anew, when a server
    drains or is lost: scoring the same request twice raises no second alert. At most ``in_flight``
    wait for answers; who asks for more waits first.
    """

    def __init__(
        self,
        open_call: "grpc.StreamStreamMultiCallable[pb.ScoreStreamRequest, pb.ScoreStreamResponse]",
        *,
        in_flight: int,
        timeout_s: float,
    ) -> None:
        self._open_call = open_call
        self._timeout_s = timeout_s
        self._room = threading.Semaphore(in_flight)
        self._lock = threading.Lock()
        self._unanswered: Unanswered[Future[pb.ScoreResponse]] = Unanswered()
        self._outgoing: _Requests = SimpleQueue()
        self._reader: threading.Thread | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def score(
        self,
        inputs: Scored | pb.ScoreRequest,
        *,
        baseline: str = "",
        options: pb.ScoreOptions | None = None,
    ) -> pb.ScoreResponse:
        """Score as ``Client.score`` does; raises RequestError, a ``grpc.RpcError``."""
        message = as_request(inputs, baseline, options)
        answer = self.submit(message)
        try:
            return answer.result(self._timeout_s)
        except TimeoutError as error:
            with self._lock:
                self._unanswered.forget(message.request_id)
                if not answer.done():
                    answer.set_exception(error)
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer in {self._timeout_s:g} s"
            ) from error

    def submit(self, message: pb.ScoreRequest) -> Future[pb.ScoreResponse]:
        """Ask, and return at once what will hold the answer, unless too many wait already.

        Raises InputError for an id that is under way; an answer is not waited for without end only
        by ``score``.
        """
        self._room.acquire()
        answer: Future[pb.ScoreResponse] = Future()
        answer.add_done_callback(lambda _: self._room.release())
        # From here on nobody can cancel it between a look and an answer.
        answer.set_running_or_notify_cancel()
        try:
            with self._lock:
                self._send(message, answer)
        except Exception as error:
            answer.set_exception(error)
            raise
        return answer

    def close(self) -> None:
        """Wait for the answers under way, as long as one may take, and end the stream."""
        with self._lock:
            self._is_closed = True
            self._outgoing.put(None)
            reader = self._reader
        if reader is not None:
            reader.join(self._timeout_s)
        with self._lock:
            self._unanswered.fail(closed())

    def _send(self, message: pb.ScoreRequest, answer: Future[pb.ScoreResponse]) -> None:
        if self._is_closed:
            raise closed()
        self._outgoing.put(self._unanswered.add(message, answer))
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, name="score-stream", daemon=True)
            self._reader.start()

    def _read(self) -> None:
        """Keep a stream open while somebody waits."""
        pause = threading.Event()
        while True:
            with self._lock:
                if not len(self._unanswered):
                    self._reader = None
                    return
                outgoing = self._outgoing = SimpleQueue()
                for again in self._unanswered.requests():
                    outgoing.put(again)
                if self._is_closed:
                    outgoing.put(None)
            code, details = self._once(outgoing)
            with self._lock:
                if not self._unanswered.ended(code, details):
                    self._reader = None
                    return
                pause_s = self._unanswered.pause_s()
            pause.wait(pause_s)

    def _once(self, outgoing: _Requests) -> tuple[grpc.StatusCode, str]:
        """Read one stream to its end, and return how it ended."""
        try:
            call = self._open_call(iter(outgoing.get, None))
        except ValueError as error:  # its owner closed the channel first
            return grpc.StatusCode.CANCELLED, str(error)
        try:
            for message in call:
                with self._lock:
                    again = self._unanswered.answered(message)
                if again is not None:
                    self._later(outgoing, again)
        except grpc.RpcError as error:
            # What a call raises is also the call.
            return error.code(), str(error.details())
        finally:
            call.cancel()
            outgoing.put(None)  # ends the thread that sends
        return grpc.StatusCode.OK, "the server ended the stream"

    def _later(self, outgoing: _Requests, again: Waiting[Future[pb.ScoreResponse]]) -> None:
        pause_s = self._unanswered.pause_s(again.attempts)
        message = pb.ScoreStreamRequest(request=again.request)
        timer = threading.Timer(pause_s, outgoing.put, [message])
        timer.daemon = True
        timer.start()
