"""What a refusal says to a program, beside its sentence for people: when to retry, which field."""

import math
from typing import Final, TypeAlias

import grpc
from google.rpc import error_details_pb2, status_pb2

from mad.errors import InputError, OverloadedError, TooLargeError
from mad.service.deadline import seconds_left

Trailers: TypeAlias = tuple[tuple[str, str | bytes], ...]

_PUSHBACK: Final = "grpc-retry-pushback-ms"
# A retry would be refused again, or come too late: the caller is told at once.
_NEVER: Final = "-1"
_DETAILS: Final = "grpc-status-details-bin"


def trailers(error: Exception, code: grpc.StatusCode, text: str) -> Trailers:
    """Return the trailing metadata of a call that an error ends.

    gRPC's own retries obey the pushback (gRFC A6); ``RetryInfo`` and ``BadRequest`` are for callers
    that look at the details, by ``grpc_status.rpc_status.from_call``.
    """
    match error:
        case OverloadedError():
            after_ms = math.ceil(error.retry_after_s * 1000)
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromMilliseconds(after_ms)
            pushback = str(after_ms) if error.retry_after_s < seconds_left() else _NEVER
            return (_PUSHBACK, pushback), (_DETAILS, _status(code, text, info))
        case TooLargeError():
            return ((_PUSHBACK, _NEVER),)
        case InputError(field=field) if field:
            violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            bad = error_details_pb2.BadRequest(field_violations=[violation])
            return ((_DETAILS, _status(code, text, bad)),)
        case _:
            return ()


def _status(
    code: grpc.StatusCode,
    text: str,
    detail: error_details_pb2.RetryInfo | error_details_pb2.BadRequest,
) -> bytes:
    status = status_pb2.Status(code=code.value[0], message=text)
    status.details.add().Pack(detail)
    content: bytes = status.SerializeToString()
    return content
