"""Histograms that are cheap to feed: values are kept as they come, and counted many at a time.

prometheus-client counts each value by itself, which at a dozen series a request costs more than the
rest of a call. What is exported is the same.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from mad.metrics.counter import nothing_waits
from mad.metrics.table import Series

_KEPT: Final = 512
"""Values that wait to be counted, at most; reading a histogram counts all of them."""


@final
class Histogram:
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
        self._edges = (*series.edges, np.inf)
        self._children: dict[tuple[str, ...], Child] = {}
        self._making = threading.Lock()
        registry.register(self)
        if not series.labels:
            self.labels()

    def labels(self, *values: str) -> "Child":
        """Return the child of some labels, in the order of the table."""
        child = self._children.get(values)
        if child is None:
            assert len(values) == len(self._series.labels)
            with self._making:
                child = self._children.setdefault(values, Child(self._edges))
        return child

    def describe(self) -> Iterator[Metric]:
        """Tell the registry which names are taken."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """Export every child."""
        self._before_read()
        family = self._family()
        bounds = [_bound(edge) for edge in self._edges]
        for values, child in list(self._children.items()):
            counts, total = child.read()
            cumulated = np.cumsum(counts).tolist()
            family.add_metric(values, list(zip(bounds, cumulated, strict=True)), total)
        yield family

    def _family(self) -> HistogramMetricFamily:
        series = self._series
        return HistogramMetricFamily(series.name, series.help, labels=series.labels)


def _bound(edge: float) -> str:
    written: str = floatToGoString(edge)  # type: ignore[no-untyped-call]  # the library left it out
    return written


@final
class Child:
    """The histogram of one set of labels."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges)
        self._counts = np.zeros(len(edges), np.int64)
        self._total = 0.0
        self._values: list[float] = []
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count a finite value in the first bucket whose edge is not below it."""
        with self._lock:
            self._values.append(value)
            if len(self._values) >= _KEPT:
                self._fold()

    def observe_all(self, values: Sequence[float]) -> None:
        """Count finite values."""
        with self._lock:
            self._values += values
            if len(self._values) >= _KEPT:
                self._fold()

    def read(self) -> tuple[Sequence[int], float]:
        """Return how many values each bucket has by itself, and the sum of all."""
        with self._lock:
            self._fold()
            return self._counts.tolist(), self._total

    def _fold(self) -> None:
        if self._values:
            values = np.array(self._values)
            places = np.searchsorted(self._edges, values, side="left")
            self._counts += np.bincount(places, minlength=len(self._counts))
            self._total += float(values.sum())
            self._values.clear()
