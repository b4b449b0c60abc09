"""Our errors to gRPC status codes, in one table, applied to every call."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

import grpc

from mad.errors import (
    AlertLogError,
    AlertRefusedError,
    AuditError,
    BaselineError,
    BaselineNotFoundError,
    ConfigError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    GateError,
    InputError,
    MadError,
    NotFoundError,
    OverloadedError,
    ShuttingDownError,
    TooLargeError,
    UnauthenticatedError,
    UnreadableError,
    UpstreamError,
)
from mad.metrics import Metrics
from mad.service import details
from mad.service.calls import Call

log = logging.getLogger(__name__)

STATUS: Final[Mapping[type[MadError], grpc.StatusCode]] = {
    MadError: grpc.StatusCode.INTERNAL,
    ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    BaselineError: grpc.StatusCode.FAILED_PRECONDITION,
    BaselineNotFoundError: grpc.StatusCode.NOT_FOUND,
    GateError: grpc.StatusCode.FAILED_PRECONDITION,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ConflictError: grpc.StatusCode.ABORTED,
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnreadableError: grpc.StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ExpiredError: grpc.StatusCode.DEADLINE_EXCEEDED,
    UpstreamError: grpc.StatusCode.UNAVAILABLE,
    ShuttingDownError: grpc.StatusCode.UNAVAILABLE,
    AlertLogError: grpc.StatusCode.UNAVAILABLE,
    AlertRefusedError: grpc.StatusCode.INTERNAL,
    AuditError: grpc.StatusCode.UNAVAILABLE,
}
_SHED: Final[Mapping[type[MadError], str]] = {
    ExpiredError: "expired",
    ShuttingDownError: "draining",
}
_INVALID: Final[Mapping[type[MadError], str]] = {
    BaselineNotFoundError: "not_found",
    InputError: "input",
    TooLargeError: "too_large",
    UnreadableError: "decode",
}

INTERNAL_TEXT: Final = "internal error; the server's log has the details"
# Status text travels in a header, and clients refuse headers beyond a few kilobytes.
_MAX_TEXT: Final = 500
_MAX_HEAD: Final = 300

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Id of the request being answered, for log lines."""


def answer_to(error: Exception, metrics: Metrics, *, method: str) -> tuple[grpc.StatusCode, str]:
    """Return the status and text a caller gets for an error, and count or log it.

    An error we did not raise on purpose is our mistake: it is logged with its traceback, and the
    caller learns nothing of it.
    """
    if not isinstance(error, MadError):
        fields = {"method": method, "request_id": request_id.get()}
        log.error("call failed: %s", fields, exc_info=error, extra=fields)
        return grpc.StatusCode.INTERNAL, INTERNAL_TEXT
    kind = type(error)
    if isinstance(error, OverloadedError):
        metrics.shed(error.reason)
    if kind in _SHED:
        metrics.shed(_SHED[kind])
    if kind in _INVALID:
        metrics.invalid_input(_INVALID[kind])
    return STATUS[kind], _shortened(str(error))


def _shortened(text: str) -> str:
    """Cut a long text in its middle: a caller's own long value stands there, the remedy last."""
    if len(text) <= _MAX_TEXT:
        return text
    return f"{text[:_MAX_HEAD]} ... {text[len(text) - _MAX_TEXT + _MAX_HEAD + 5 :]}"


async def refuse(call: Call, error: Exception, *, metrics: Metrics) -> None:
    """Abort a call with the status of the error that left its body."""
    code, text = answer_to(error, metrics, method=call.method)
    await call.context.abort(code, text, details.trailers(error, code, text))
