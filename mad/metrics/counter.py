"""Counters that are cheap to move: every call moves several.

prometheus-client passes through five functions for each step. What is exported is the same.
"""

import threading
from collections.abc import Callable, Iterator
from typing import final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric

from mad.metrics.table import Series


def nothing_waits() -> None:
    """Do nothing before a series is read: all there is has been counted in."""


@final
class Counter:
    """All children of one series; safe to use from any thread.

    ``before_read`` is called before it is exported, to count in what waits.
    """

    def __init__(
        self,
        series: Series,
        registry: CollectorRegistry,
        *,
        before_read: Callable[[], None] = nothing_waits,
    ) -> None:
        self._series = series
        self._before_read = before_read
        self._children: dict[tuple[str, ...], Count] = {}
        self._making = threading.Lock()
        registry.register(self)

    def labels(self, *values: str) -> "Count":
        """Return the child of some labels, in the order of the table."""
        child = self._children.get(values)
        if child is None:
            assert len(values) == len(self._series.labels)
            with self._making:
                child = self._children.setdefault(values, Count())
        return child

    def describe(self) -> Iterator[Metric]:
        """Tell the registry which names are taken."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """Export every child."""
        self._before_read()
        family = self._family()
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family

    def _family(self) -> CounterMetricFamily:
        series = self._series
        return CounterMetricFamily(series.name, series.help, labels=series.labels)


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
