"""The series that every scored input moves, counted in many at a time."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

from mad.metrics.counter import Counter
from mad.metrics.histogram import Child, Histogram
from mad.metrics.table import Scored
from mad.types import Verdict

_KEPT: Final = 64
"""Requests that wait to be counted in, at most."""
SERIES: Final = frozenset(
    {
        "mad_inputs_scored_total",
        "mad_surprise_shannons",
        "mad_mechanism_shannons",
        "mad_novelty_shannons",
        "mad_description_shannons",
        "mad_residual_shannons",
        "mad_p_value",
        "mad_components_active",
    }
)
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
        self._inputs = counters["mad_inputs_scored_total"]
        self._histograms = histograms
        self._model = model
        self._label_of = label_of
        self._waiting: deque[tuple[str, Scored, Sequence[Verdict]]] = deque()
        self._counting = threading.Lock()

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
        self._inputs.labels(self._model, baseline, traffic).inc(len(verdicts))
        kind = (self._model, baseline, traffic)
        _observe(self._child("surprise_shannons", *kind), [it.surprise_bits for it in verdicts])
        _observe(self._child("mechanism_shannons", *kind), [it.mechanism_bits for it in verdicts])
        _observe(self._child("novelty_shannons", *kind), [it.novelty_bits for it in verdicts])
        _observe(self._child("p_value", *kind), [it.p_value for it in verdicts])
        own = (self._model, baseline)
        _observe(
            self._child("description_shannons", *own), [it.description_bits for it in verdicts]
        )
        _observe(self._child("residual_shannons", *own), list(_residuals(verdicts)))
        _observe(self._child("components_active", *own), [it.active_components for it in verdicts])

    def _child(self, name: str, *labels: str) -> Child:
        return self._histograms[f"mad_{name}"].labels(*labels)


def _residuals(verdicts: Sequence[Verdict]) -> Iterable[float]:
    for verdict in verdicts:
        bits = [part.bits for part in verdict.parts if part.term == "residual"]
        if bits:
            yield sum(bits)


def _observe(histogram: Child, values: Sequence[float]) -> None:
    histogram.observe_all([value for value in values if math.isfinite(value)])
