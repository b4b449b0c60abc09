"""Until when the caller of the request being answered waits."""

import math
import time
from contextvars import ContextVar
from typing import Final

deadline: Final[ContextVar[float]] = ContextVar("deadline", default=math.inf)
"""Time of the monotonic clock, in seconds; infinite for a caller that waits for ever."""


def seconds_left() -> float:
    """Return how long the caller still waits."""
    return deadline.get() - time.monotonic()


def deadline_of(time_remaining: float | None) -> float:
    """Return the deadline of a call, given what gRPC says of it: seconds left, or None."""
    return math.inf if time_remaining is None else time.monotonic() + time_remaining
