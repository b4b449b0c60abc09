"""Histograms that are cheap to feed: values are kept as they come, and counted many at a time."""

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeAlias, final

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from mad.metrics.family import Family, Line, Read, nothing_waits
from mad.metrics.table import Series

_KEPT: Final = 512
"""Values that wait to be counted, at most; reading a histogram counts all of them."""


@final
class Child:
    """The histogram of one set of labels."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges)
        self._counts = np.zeros(len(edges), np.int64)
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
        place = int(np.searchsorted(self._edges, value, side="left"))
        with self._lock:
            self._examples[place] = Exemplar(dict(labels), value, timestamp)

    def read(self) -> tuple[Sequence[int], float, Mapping[int, Exemplar]]:
        """Return how many values each bucket has by itself, the sum of all, and examples."""
        with self._lock:
            self._fold()
            return self._counts.tolist(), self._total, dict(self._examples)

    def _fold(self) -> None:
        if self._values:
            values = np.array(self._values)
            places = np.searchsorted(self._edges, values, side="left")
            self._counts += np.bincount(places, minlength=len(self._counts))
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
