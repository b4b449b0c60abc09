"""The series that every scored input moves, counted in many at a time."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, final

from mad.metrics.counter import Counter
from mad.metrics.histogram import Histogram
from mad.metrics.table import TRAFFIC, Scored
from mad.types import Verdict

_KEPT: Final = 64
"""Requests that wait to be counted in, at most."""
_INPUTS: Final = "mad_inputs_scored_total"
_RESIDUAL: Final = "mad_residual_shannons"
_BY_TRAFFIC: Final[Mapping[str, Callable[[Verdict], float]]] = {
    "mad_surprise_shannons": attrgetter("surprise_bits"),
    "mad_mechanism_shannons": attrgetter("mechanism_bits"),
    "mad_novelty_shannons": attrgetter("novelty_bits"),
    "mad_p_value": attrgetter("p_value"),
}
_BY_BASELINE: Final[Mapping[str, Callable[[Verdict], float]]] = {
    "mad_description_shannons": attrgetter("description_bits"),
    "mad_components_active": attrgetter("active_components"),
}
SERIES: Final = frozenset({_INPUTS, _RESIDUAL, *_BY_TRAFFIC, *_BY_BASELINE})
"""What is to be read only after ``count_in``."""


@final
class ScoreMetrics:
    """Events of scoring; safe to use from any thread.

    ``label_of`` gives the label of a baseline by its name.
    """

    def __init__(
        self,
        counters: Mapping[str, Counter],
        histograms: Mapping[str, Histogram],
        *,
        model: str,
        label_of: Callable[[str], str],
    ) -> None:
        self._inputs = counters[_INPUTS]
        self._histograms = histograms
        self._model = model
        self._label_of = label_of
        self._waiting: deque[tuple[str, Scored, Sequence[Verdict]]] = deque()
        self._counting = threading.Lock()

    def loaded(self, baseline: str) -> None:
        """Begin the series of a baseline, given by name, at zero, for rates to rise from."""
        labels = (self._model, self._label_of(baseline))
        for traffic in TRAFFIC:
            self._inputs.labels(*labels, traffic)
            for name in _BY_TRAFFIC:
                self._histograms[name].labels(*labels, traffic)
        for name in (*_BY_BASELINE, _RESIDUAL):
            self._histograms[name].labels(*labels)

    def scored(self, baseline: str, traffic: Scored, verdicts: Sequence[Verdict]) -> None:
        """Inputs of one kind of traffic were scored by a baseline, given by name."""
        self._waiting.append((baseline, traffic, verdicts))
        if len(self._waiting) >= _KEPT:
            self.count_in()

    def count_in(self) -> None:
        """Move the series by what waits."""
        with self._counting:
            by_kind: dict[tuple[str, Scored], list[Verdict]] = {}
            while self._waiting:
                baseline, traffic, verdicts = self._waiting.popleft()
                by_kind.setdefault((baseline, traffic), []).extend(verdicts)
            for (baseline, traffic), all_of_kind in by_kind.items():
                self._count(self._label_of(baseline), traffic, all_of_kind)

    def _count(self, baseline: str, traffic: Scored, verdicts: Sequence[Verdict]) -> None:
        labels = (self._model, baseline)
        self._inputs.labels(*labels, traffic).inc(len(verdicts))
        for name, of in _BY_TRAFFIC.items():
            self._observe(name, map(of, verdicts), *labels, traffic)
        for name, of in _BY_BASELINE.items():
            self._observe(name, map(of, verdicts), *labels)
        self._observe(_RESIDUAL, _residuals(verdicts), *labels)

    def _observe(self, name: str, values: Iterable[float], *labels: str) -> None:
        finite = [value for value in values if math.isfinite(value)]
        self._histograms[name].labels(*labels).observe_all(finite)


def _residuals(verdicts: Sequence[Verdict]) -> Iterable[float]:
    for verdict in verdicts:
        bits = [part.bits for part in verdict.parts if part.term == "residual"]
        if bits:
            yield sum(bits)
