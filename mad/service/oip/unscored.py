"""What happens when a score cannot be had and the answer must not wait for it: it is counted."""

from collections.abc import Mapping
from typing import Final

from mad.errors import (
    BaselineError,
    ExpiredError,
    InputError,
    MadError,
    OverloadedError,
    ShuttingDownError,
)
from mad.metrics import Metrics, Unscored
from mad.service.errors import answer_to
from mad.service.oip import inference_pb2 as pb

_REASONS: Final[Mapping[type[MadError], Unscored]] = {
    OverloadedError: "overloaded",
    ExpiredError: "late",
    ShuttingDownError: "draining",
    InputError: "refused",
    BaselineError: "refused",
}
_MOST: Final = 65_536
"""A request counts as at most so many inputs, whatever it says of itself."""


def reason_of(error: Exception, metrics: Metrics, *, method: str) -> Unscored:
    """Say why there is no score; the error is counted, or logged, as if the caller had got it."""
    answer_to(error, metrics, method=method)
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "failed")


def inputs_in(request: pb.ModelInferRequest) -> int:
    """Return how many inputs a request says it has, at least one."""
    shape = request.inputs[0].shape if request.inputs else ()
    return min(max(shape[0], 1), _MOST) if shape else 1
