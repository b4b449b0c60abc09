"""Gauges that can be taken away again, and are worked out when somebody looks."""

from collections.abc import Callable
from typing import TypeAlias, final

from prometheus_client import CollectorRegistry

from mad.metrics.family import Family, Read, nothing_waits
from mad.metrics.table import Series


@final
class Level:
    """The gauge of one set of labels, at zero until it is set."""

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self.set(0.0)

    @property
    def value(self) -> float:
        """Where it stands."""
        return self._read()

    def set(self, value: float) -> None:
        """Stand at a value."""
        self._read: Callable[[], float] = lambda: value

    def set_function(self, read: Callable[[], float]) -> None:
        """Stand at whatever a function says when it is read."""
        self._read = read


Gauge: TypeAlias = Family[Level]
"""All gauges of one series."""


def gauge(
    series: Series,
    registry: CollectorRegistry,
    *,
    before_read: Callable[[], None] = nothing_waits,
) -> Gauge:
    """Register a series of gauges."""
    return Family(
        series,
        registry,
        make=Level,
        read=lambda child: Read((child.value,)),
        before_read=before_read,
    )
