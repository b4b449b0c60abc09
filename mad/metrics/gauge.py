"""Gauges that can be taken away again, and are worked out when somebody looks."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily

from mad.metrics.family import Family, nothing_waits
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

    def export(children: Sequence[tuple[tuple[str, ...], Level]]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(series.name, series.help, labels=series.labels)
        for values, child in children:
            family.add_metric(values, child.value)
        return family

    return Family(series, registry, make=Level, export=export, before_read=before_read)
