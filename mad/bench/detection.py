"""Scores of ordinary and anomalous inputs in; areas, recalls and their intervals out.

Higher scores are more anomalous. Every figure is a function of a tally, so that a bootstrap
replicate, which is only another tally, is measured by the same line of code as the scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias, final

import numpy as np
from jaxtyping import Float64, Int64, Shaped

CONFIDENCE = 0.95
"""Share of replicates that an interval keeps."""


@final
@dataclass(frozen=True)
class Tally:
    """How many ordinary and anomalous inputs have each score, highest score first.

    Leading axes, if any, are replicates.
    """

    normal: Int64[np.ndarray, "*replicate score"]
    anomalous: Int64[np.ndarray, "*replicate score"]

    @staticmethod
    def of(
        normal: Float64[np.ndarray, " normal"], anomalous: Float64[np.ndarray, " anomalous"]
    ) -> "Tally":
        """Count the inputs with each distinct score; no score may be NaN."""
        place, scores = _places(normal, anomalous)
        return Tally(
            np.bincount(place[: normal.size], minlength=scores),
            np.bincount(place[normal.size :], minlength=scores),
        )


Figure: TypeAlias = Callable[[Tally], Float64[np.ndarray, "*replicate"]]


class Estimate(NamedTuple):
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float


def auroc(tally: Tally) -> Float64[np.ndarray, "*replicate"]:
    """Return the chance that an anomaly scores above an ordinary input; a tie counts half."""
    total = tally.normal.sum(axis=-1, keepdims=True)
    below = total - np.cumsum(tally.normal, axis=-1)
    wins = (tally.anomalous * (below + 0.5 * tally.normal)).sum(axis=-1)
    area: Float64[np.ndarray, "*replicate"] = wins / (total[..., 0] * tally.anomalous.sum(axis=-1))
    return area


def average_precision(tally: Tally) -> Float64[np.ndarray, "*replicate"]:
    """Return the precision at each distinct score, averaged over the anomalies that have it."""
    found = np.cumsum(tally.anomalous, axis=-1)
    flagged = found + np.cumsum(tally.normal, axis=-1)
    precision = found / np.maximum(flagged, 1)
    return _share(tally.anomalous * precision, of=tally.anomalous)


def recall_at(tally: Tally, *, rate: float) -> Float64[np.ndarray, "*replicate"]:
    """Return the share of anomalies above the threshold that keeps false alarms within ``rate``.

    The threshold is the lowest score that at most ``floor(rate * n)`` of the ``n`` ordinary inputs
    exceed; only scores strictly above it are flagged, so ties never break the promise.
    """
    # Without the hair, 0.29 * 100 would allow 28.
    allowed = np.floor(rate * tally.normal.sum(axis=-1, keepdims=True) + 1e-9)
    is_flagged = np.cumsum(tally.normal, axis=-1) <= allowed
    return _share(tally.anomalous * is_flagged, of=tally.anomalous)


FIGURES: Mapping[str, Figure] = {
    "auroc": auroc,
    "average_precision": average_precision,
    "recall_at_fpr_01": partial(recall_at, rate=0.01),
    "recall_at_fpr_001": partial(recall_at, rate=0.001),
}

NEEDS_NORMAL: Mapping[str, int] = {"recall_at_fpr_01": 100, "recall_at_fpr_001": 1_000}
"""Ordinary inputs without which not even one false alarm is within the rate."""


def estimate(
    names: tuple[str, ...],
    normal: Float64[np.ndarray, " normal"],
    anomalous: Float64[np.ndarray, " anomalous"],
    *,
    generator: np.random.Generator,
    replicates: int = 1_000,
) -> dict[str, Estimate | None]:
    """Return some of ``FIGURES`` with stratified percentile-bootstrap intervals.

    Replicates redraw ordinary and anomalous inputs apart, with replacement. Drawing an anomaly
    twice raises precision, so with few anomalies the interval of a low average precision can lie
    above it. None stands for a recall whose false-alarm rate these ordinary inputs cannot resolve.
    """
    measured = {name: FIGURES[name] for name in names if normal.size >= NEEDS_NORMAL.get(name, 1)}
    tally = Tally.of(normal, anomalous)
    drawn: dict[str, list[Float64[np.ndarray, " replicate"]]] = {name: [] for name in measured}
    # A few at a time: every replicate holds two counts for each distinct score.
    per_pass = max(1, 2_000_000 // (normal.size + anomalous.size))
    for start in range(0, replicates, per_pass):
        count = min(per_pass, replicates - start)
        replicate = Tally(
            _redrawn(tally.normal, count, generator), _redrawn(tally.anomalous, count, generator)
        )
        for name, figure in measured.items():
            drawn[name].append(figure(replicate))
    tail = (1 - CONFIDENCE) / 2
    found: dict[str, Estimate | None] = dict.fromkeys(names)
    for name, figure in measured.items():
        low, high = np.quantile(np.concatenate(drawn[name]), (tail, 1 - tail))
        found[name] = Estimate(float(figure(tally)), float(low), float(high))
    return found


def _places(
    normal: Float64[np.ndarray, " normal"], anomalous: Float64[np.ndarray, " anomalous"]
) -> tuple[Int64[np.ndarray, " input"], int]:
    """Return each input's place among the distinct scores, highest first, and their number."""
    scores = np.concatenate([normal, anomalous])
    assert not np.isnan(scores).any()
    distinct, place = np.unique(-scores, return_inverse=True)
    return place, distinct.size


def _share(
    part: Shaped[np.ndarray, "*replicate score"], *, of: Int64[np.ndarray, "*replicate score"]
) -> Float64[np.ndarray, "*replicate"]:
    share: Float64[np.ndarray, "*replicate"] = part.sum(axis=-1) / of.sum(axis=-1)
    return share


def _redrawn(
    counts: Int64[np.ndarray, " score"], replicates: int, generator: np.random.Generator
) -> Int64[np.ndarray, "replicate score"]:
    places = np.repeat(np.arange(counts.size), counts)
    chosen = places[generator.integers(places.size, size=(replicates, places.size))]
    chosen += counts.size * np.arange(replicates)[:, None]
    flat = np.bincount(chosen.ravel(), minlength=replicates * counts.size)
    return flat.reshape(replicates, counts.size)
