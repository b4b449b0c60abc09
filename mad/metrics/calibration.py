"""Whether the promised false-alarm rate is kept: series that are worked out when they are read."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from mad.metrics.counter import Counter
from mad.metrics.gauge import Gauge
from mad.metrics.table import Traffic
from mad.types import Site

MOST_LOG10: Final = 300.0
"""Wealth beyond ``10 ** 300`` is shown as that, which a double can still hold."""
_OBSERVED: Final = "mad_calibration_observed_ratio"
_LOW: Final = "mad_calibration_observed_low_ratio"
_HIGH: Final = "mad_calibration_observed_high_ratio"
_GAP: Final = "mad_calibration_ks_ratio"
_WINDOW: Final = "mad_calibration_window_samples"
_WEALTH: Final = "mad_calibration_wealth_log10"
_DRIFT: Final = "mad_component_drift_shannons"
_UNSEEN: Final = "mad_components_unseen_total"
SERIES: Final = frozenset({_OBSERVED, _LOW, _HIGH, _GAP, _WINDOW, _WEALTH, _DRIFT, _UNSEEN})
"""What is to be read only after ``refresh``."""


class RateReading(NamedTuple):
    """Of recent inputs of a kind: the share at or under ``alpha``, and where the true one lies."""

    traffic: Traffic
    alpha: float
    observed: float
    low: float
    high: float


@final
@dataclass(frozen=True, kw_only=True)
class CalibrationReading:
    """What is known of one baseline's promise; see the table for each series.

    ``unseen`` counts uses since the reading before.
    """

    baseline: str
    gap: float
    window: int
    wealth_log10: float
    rates: Sequence[RateReading]
    drift_bits: Mapping[tuple[Traffic, Site], float]
    unseen: int


@final
class CalibrationMetrics:
    """The series of one model's calibration; ``label_of`` gives a baseline's label by its name."""

    def __init__(
        self,
        counters: Mapping[str, Counter],
        gauges: Mapping[str, Gauge],
        *,
        model: str,
        label_of: Callable[[str], str],
    ) -> None:
        self._counters = counters
        self._gauges = gauges
        self._model = model
        self._label_of = label_of
        self._source: Callable[[], Iterable[CalibrationReading]] = tuple
        self._shown: dict[tuple[str, ...], Collection[tuple[Traffic, str]]] = {}
        self._refreshing = threading.Lock()

    def read_from(self, source: Callable[[], Iterable[CalibrationReading]]) -> None:
        """Ask a source before each reading of the series for what has changed since."""
        self._source = source

    def loaded(self, baseline: str) -> None:
        """Begin the series of a baseline, given by name, at zero."""
        labels = (self._model, self._label_of(baseline))
        for name in (_GAP, _WINDOW, _WEALTH):
            self._gauges[name].labels(*labels)
        self._counters[_UNSEEN].labels(*labels)

    def refresh(self) -> None:
        """Take in what has changed."""
        with self._refreshing:
            for reading in self._source():
                self._take(reading)

    def _take(self, reading: CalibrationReading) -> None:
        labels = (self._model, self._label_of(reading.baseline))
        self._gauges[_GAP].labels(*labels).set(reading.gap)
        self._gauges[_WINDOW].labels(*labels).set(reading.window)
        wealth = min(max(reading.wealth_log10, -MOST_LOG10), MOST_LOG10)
        self._gauges[_WEALTH].labels(*labels).set(wealth)
        self._counters[_UNSEEN].labels(*labels).inc(reading.unseen)
        rates = {(one.traffic, f"{one.alpha:g}"): one for one in reading.rates}
        self._replace(_OBSERVED, labels, {key: one.observed for key, one in rates.items()})
        self._replace(_LOW, labels, {key: one.low for key, one in rates.items()})
        self._replace(_HIGH, labels, {key: one.high for key, one in rates.items()})
        self._replace(_DRIFT, labels, reading.drift_bits)

    def _replace(
        self, name: str, labels: tuple[str, str], values: Mapping[tuple[Traffic, str], float]
    ) -> None:
        """Stand at these values: another revision may have other rates and sites."""
        for key, value in values.items():
            self._gauges[name].labels(*labels, *key).set(value)
        if self._shown.get((name, *labels)) != values.keys():
            self._gauges[name].keep(*labels, only={(*labels, *key) for key in values})
            self._shown[name, *labels] = frozenset(values)
