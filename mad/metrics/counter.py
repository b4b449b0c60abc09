"""Counters that are cheap to move: every call moves several."""

import threading
from collections.abc import Callable
from typing import TypeAlias, final

from prometheus_client import CollectorRegistry

from mad.metrics.family import Family, Read, nothing_waits
from mad.metrics.table import Series


@final
class Count:
    """The counter of one set of labels, from zero."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def inc(self, amount: int = 1) -> None:
        """Go up."""
        with self._lock:
            self.value += amount


Counter: TypeAlias = Family[Count]
"""All counters of one series."""


def counter(
    series: Series,
    registry: CollectorRegistry,
    *,
    before_read: Callable[[], None] = nothing_waits,
) -> Counter:
    """Register a series of counters."""
    return Family(
        series,
        registry,
        make=Count,
        read=lambda child: Read((child.value,)),
        before_read=before_read,
    )
