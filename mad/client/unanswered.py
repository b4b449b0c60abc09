"""What long-lived streams of scores have in common: what waits, and what is sent again."""

import random
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar, final

import grpc

from mad.errors import InputError
from mad.v1 import scoring_pb2 as pb

IN_FLIGHT: Final = 64
"""Requests of one stream that wait for answers; a server reads at most 256 ahead."""

MOST_ATTEMPTS: Final = 5
"""How often a request is sent before its error is the caller's."""

MOST_OPENED: Final = 7
"""How often a stream is opened in vain before that: for some two seconds, as a replica that
restarts may be away for that long."""

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 1.0

# A server that drains ends its streams with UNAVAILABLE; where a message was just being sent, gRPC
# says INTERNAL in its place, and CANCELLED where the connection goes.
_REOPENED: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED}
)
_RESENT: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class RequestError(grpc.RpcError):
    """One request of a stream was not answered, and why; the stream goes on."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        """Return the status."""
        return self._code

    def details(self) -> str:
        """Return the server's sentence."""
        return self._details


def closed() -> RequestError:
    """Return the error of a stream that its owner closed."""
    return RequestError(grpc.StatusCode.CANCELLED, "the stream is closed; open another")


class Answered(Protocol):
    """A future of an answer, of threads or of asyncio."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, result: pb.ScoreResponse, /) -> None:
        """Answer."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Say why there is none."""
        ...


Future = TypeVar("Future", bound=Answered)


@dataclass(eq=False)
class Waiting(Generic[Future]):
    """A request, who waits for it, and how often it was sent."""

    request: pb.ScoreRequest
    answer: Future
    attempts: int = 1


@final
class Unanswered(Generic[Future]):
    """Requests of one caller by id, in the order they were asked. Not safe between threads."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting[Future]] = {}
        self._failures = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def requests(self) -> list[pb.ScoreStreamRequest]:
        """Return what a stream that was opened anew has to send again."""
        return [pb.ScoreStreamRequest(request=each.request) for each in self._waiting.values()]

    def add(self, request: pb.ScoreRequest, answer: Future) -> pb.ScoreStreamRequest:
        """Take a request; InputError for an id that is under way."""
        if request.request_id in self._waiting:
            raise InputError(
                f"request_id {request.request_id!r} is under way on this stream; give each request "
                "one of its own"
            )
        self._waiting[request.request_id] = Waiting(request, answer)
        return pb.ScoreStreamRequest(request=request)

    def forget(self, request_id: str) -> None:
        """Let go of a request nobody waits for; its answer, should it come, is dropped."""
        self._waiting.pop(request_id, None)

    def answered(self, message: pb.ScoreStreamResponse) -> Waiting[Future] | None:
        """Pass an answer on; return the request if it is to be sent again, after a pause."""
        waiting = self._waiting.get(message.request_id)
        if waiting is None:
            return None
        self._failures = 0
        code = _CODES.get(message.error.code, grpc.StatusCode.UNKNOWN)
        if message.HasField("response"):
            self._settle(waiting, message.response)
        elif code in _RESENT and waiting.attempts < MOST_ATTEMPTS:
            waiting.attempts += 1
            return waiting
        else:
            self._settle(waiting, RequestError(code, message.error.message))
        return None

    def ended(self, code: grpc.StatusCode, details: str) -> bool:
        """Take the end of a stream; whether to open another. If not, nobody waits any more."""
        self._failures += 1
        if code in {*_REOPENED, grpc.StatusCode.OK} and self._failures < MOST_OPENED:
            return bool(self._waiting)
        self.fail(RequestError(code, details))
        self._failures = 0
        return False

    def fail(self, error: RequestError) -> None:
        """Tell everybody who waits."""
        for waiting in list(self._waiting.values()):
            self._settle(waiting, error)

    def pause_s(self, attempts: int = 0) -> float:
        """Return how long to wait before a request or a stream is tried again, with jitter."""
        tried = attempts or self._failures
        longest = min(_FIRST_WAIT_S * 2.0 ** (tried - 1), _LONGEST_WAIT_S)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads callers, hides nothing

    def _settle(self, waiting: Waiting[Future], found: pb.ScoreResponse | RequestError) -> None:
        self.forget(waiting.request.request_id)
        if waiting.answer.done():
            return
        if isinstance(found, RequestError):
            waiting.answer.set_exception(found)
        else:
            waiting.answer.set_result(found)
