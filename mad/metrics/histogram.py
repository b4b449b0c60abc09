"""Histograms that are cheap to feed: values are kept as they come, and counted many at a time."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import add
from typing import Final, TypeAlias, final

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from mad.metrics.family import Family, Line, Read, nothing_waits
from mad.metrics.table import Series

_KEPT: Final = 512
"""Values that wait to be counted, at most; reading a histogram counts all of them."""
_FEW: Final = 16
"""So many are counted sooner one by one than by NumPy."""


@final
class Child:
    """The histogram of one set of labels."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = edges
        self._array = np.array(edges)
        self._counts = [0] * len(edges)
        self._total = 0.0
        self._values: list[float] = []
        self._examples: dict[int, Exemplar] = {}
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

    def exemplify(self, value: float, labels: Mapping[str, str], *, timestamp: float) -> None:
        """Let a finite value that was observed stand for its bucket, until another does."""
        place = bisect_left(self._edges, value)
        with self._lock:
            self._examples[place] = Exemplar(dict(labels), value, timestamp)

    def read(self) -> tuple[Sequence[int], float, Mapping[int, Exemplar]]:
        """Return how many values each bucket has by itself, the sum of all, and examples."""
        with self._lock:
            self._fold()
            return self._counts.copy(), self._total, dict(self._examples)

    def _fold(self) -> None:
        if len(self._values) <= _FEW:
            for value in self._values:
                self._counts[bisect_left(self._edges, value)] += 1
                self._total += value
        else:
            values = np.array(self._values)
            places = np.searchsorted(self._array, values, side="left")
            found = np.bincount(places, minlength=len(self._counts)).tolist()
            self._counts = list(map(add, self._counts, found))
            self._total += float(values.sum())
        self._values.clear()


Histogram: TypeAlias = Family[Child]
"""All histograms of one series."""


def histogram(
    series: Series,
    registry: CollectorRegistry,
    *,
    before_read: Callable[[], None] = nothing_waits,
) -> Histogram:
    """Register a series of histograms."""
    edges = (*series.edges, np.inf)
    bounds = [_bound(edge) for edge in edges]

    lines = (*(Line("_bucket", bound) for bound in bounds), Line("_count"), Line("_sum"))

    def read(child: Child) -> Read:
        counts, total, examples = child.read()
        cumulated = list(accumulate(counts))
        return Read((*cumulated, cumulated[-1], total), examples)

    return Family(
        series, registry, make=lambda: Child(edges), read=read, lines=lines, before_read=before_read
    )


def _bound(edge: float) -> str:
    written: str = floatToGoString(edge)  # type: ignore[no-untyped-call]  # the library left it out
    return written
