"""One series and its children: one for each set of labels, made when it is first asked for.

prometheus-client's own counters and histograms cost a call more than the rest of it does; ours move
less. What is exported is the same.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from typing import Generic, TypeVar, final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from mad.metrics.table import Series

Child = TypeVar("Child")


def nothing_waits() -> None:
    """Do nothing before a series is read: all there is has been counted in."""


@final
class Family(Generic[Child]):
    """All children of one series; safe to use from any thread.

    ``export`` writes some children, by their labels, as prometheus-client has them. ``before_read``
    is called first, to count in what waits.
    """

    def __init__(
        self,
        series: Series,
        registry: CollectorRegistry,
        *,
        make: Callable[[], Child],
        export: Callable[[list[tuple[tuple[str, ...], Child]]], Metric],
        before_read: Callable[[], None] = nothing_waits,
    ) -> None:
        self._num_labels = len(series.labels)
        self._make = make
        self._export = export
        self._before_read = before_read
        self._children: dict[tuple[str, ...], Child] = {}
        self._making = threading.Lock()
        registry.register(self)
        if not series.labels:
            self.labels()

    def labels(self, *values: str) -> Child:
        """Return the child of some labels, in the order of the table."""
        child = self._children.get(values)
        if child is None:
            assert len(values) == self._num_labels
            with self._making:
                child = self._children.setdefault(values, self._make())
        return child

    def remove(self, *values: str) -> None:
        """Export the child of some labels no more."""
        with self._making:
            self._children.pop(values, None)

    def keep(self, *first: str, only: Collection[tuple[str, ...]] = ()) -> None:
        """Of children whose labels begin with some, export no more than those given whole."""
        with self._making:
            for values in tuple(self._children):
                if values[: len(first)] == first and values not in only:
                    del self._children[values]

    def describe(self) -> Iterator[Metric]:
        """Tell the registry which names are taken."""
        yield self._export([])

    def collect(self) -> Iterator[Metric]:
        """Export every child."""
        self._before_read()
        with self._making:
            children = list(self._children.items())
        yield self._export(children)
