"""Scores of ordinary and anomalous inputs in; areas, recalls and their intervals out.

Higher scores are more anomalous. Every figure is a function of a tally, so that a bootstrap
replicate, which is only another tally, is measured by the same line of code as the scores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple, TypeAlias, final

import numpy as np
from jaxtyping import Float64, Int, Int64

CONFIDENCE = 0.95
"""Share of replicates that an interval keeps."""

_NUMBERS = 200_000
"""How many inputs of all replicates of one pass are held at once."""


@final
@dataclass(frozen=True)
class Tally:
    """How many ordinary and anomalous inputs have each score, highest score first.

    Leading axes, if any, are replicates.
    """

    normal: Int[np.ndarray, "*replicate score"]
    anomalous: Int[np.ndarray, "*replicate score"]

    @cached_property
    def alarms(self) -> Int[np.ndarray, "*replicate score"]:
        """How many ordinary inputs score as high or higher."""
        return np.cumsum(self.normal, axis=-1, dtype=self.normal.dtype)

    @cached_property
    def found(self) -> Int[np.ndarray, "*replicate score"]:
        """How many anomalous inputs score as high or higher."""
        return np.cumsum(self.anomalous, axis=-1, dtype=self.anomalous.dtype)

    @staticmethod
    def of(
        normal: Float64[np.ndarray, " normal"], anomalous: Float64[np.ndarray, " anomalous"]
    ) -> "Tally":
        """Count the inputs with each distinct score; no score may be NaN."""
        return _Ordered.of(normal, anomalous).tally()


Figure: TypeAlias = Callable[[Tally], Float64[np.ndarray, "*replicate"]]


class Estimate(NamedTuple):
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float


def auroc(tally: Tally) -> Float64[np.ndarray, "*replicate"]:
    """Return the chance that an anomaly scores above an ordinary input; a tie counts half."""
    normal, anomalous = tally.alarms[..., -1:], tally.found[..., -1]
    below = normal - tally.alarms
    wins = (tally.anomalous * (below + 0.5 * tally.normal)).sum(axis=-1)
    area: Float64[np.ndarray, "*replicate"] = wins / (normal[..., 0] * anomalous.astype(float))
    return area


def average_precision(tally: Tally) -> Float64[np.ndarray, "*replicate"]:
    """Return the precision at each distinct score, averaged over the anomalies that have it."""
    precision = tally.found / np.maximum(tally.found + tally.alarms, 1)
    summed = (tally.anomalous * precision).sum(axis=-1)
    mean: Float64[np.ndarray, "*replicate"] = summed / tally.found[..., -1]
    return mean


def recall_at(tally: Tally, *, rate: float) -> Float64[np.ndarray, "*replicate"]:
    """Return the share of anomalies above the threshold that keeps false alarms within ``rate``.

    The threshold is the lowest score that at most ``floor(rate * n)`` of the ``n`` ordinary inputs
    exceed; only scores strictly above it are flagged, so ties never break the promise.
    """
    # Without the hair, 0.29 * 100 would allow 28.
    allowed = np.floor(rate * tally.alarms[..., -1:] + 1e-9)
    flagged = np.where(tally.alarms <= allowed, tally.found, 0).max(axis=-1)
    share: Float64[np.ndarray, "*replicate"] = flagged / tally.found[..., -1]
    return share


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
    normal: Float64[np.ndarray, "fit normal"],
    anomalous: Float64[np.ndarray, "fit anomalous"],
    *,
    seed: int,
    replicates: int = 500,
) -> dict[str, Estimate | None]:
    """Return some of ``FIGURES``, means over fits, with percentile-bootstrap intervals.

    A replicate redraws ordinary inputs, anomalous inputs and fits, each with replacement and apart:
    inputs are the same for every fit, so what is redrawn of them is too. Drawing an anomaly twice
    raises precision, so with few anomalies the interval of a low average precision can lie above
    it. None stands for a recall whose false-alarm rate these ordinary inputs cannot resolve.
    """
    assert normal.shape[0] == anomalous.shape[0]
    count = normal.shape[1]
    measured = {name: FIGURES[name] for name in names if count >= NEEDS_NORMAL.get(name, 1)}
    fits = [_Ordered.of(*one) for one in zip(normal, anomalous, strict=True)]
    generator = np.random.default_rng(seed)
    of_fit = np.array([[figure(one.tally()) for one in fits] for figure in measured.values()])
    drawn = _replicates(list(measured.values()), fits, replicates, generator)
    tail = (1 - CONFIDENCE) / 2
    found: dict[str, Estimate | None] = dict.fromkeys(names)
    for place, name in enumerate(measured):
        low, high = np.quantile(drawn[place], (tail, 1 - tail))
        found[name] = Estimate(float(of_fit[place].mean()), float(low), float(high))
    return found


def share(
    happened: Float64[np.ndarray, "fit input"], *, seed: int, replicates: int = 500
) -> Estimate:
    """Return how often something happened, with a bootstrap over inputs and fits."""
    fits, inputs = happened.shape
    generator = np.random.default_rng(seed)
    of_inputs = _times(inputs, replicates, generator) / inputs
    of_fits = _times(fits, replicates, generator) / fits
    drawn = ((of_inputs @ happened.T) * of_fits).sum(axis=1)
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Estimate(float(happened.mean()), float(low), float(high))


@final
@dataclass(frozen=True)
class _Ordered:
    """The inputs of one fit, highest score first; ``starts`` is where each distinct score does."""

    order: Int64[np.ndarray, " input"]
    starts: Int64[np.ndarray, " score"]
    num_normal: int

    @staticmethod
    def of(
        normal: Float64[np.ndarray, " normal"], anomalous: Float64[np.ndarray, " anomalous"]
    ) -> "_Ordered":
        """Sort the scores of one fit, which are all numbers."""
        scores = np.concatenate([normal, anomalous])
        assert not np.isnan(scores).any()
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        # Compared, not subtracted: two infinite scores are a tie.
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        return _Ordered(order, starts, normal.size)

    def tally(self) -> Tally:
        """Count every input once."""
        counted = self.tally_of(np.ones((1, self.order.size), dtype=np.int32))
        return Tally(counted.normal[0], counted.anomalous[0])

    def tally_of(self, times: Int[np.ndarray, "replicate input"]) -> Tally:
        """Count each input as often as it was drawn; in ``times`` ordinary inputs come first."""
        ordered = times[:, self.order]
        is_normal = self.order < self.num_normal
        return Tally(self._by_score(ordered * is_normal), self._by_score(ordered * ~is_normal))

    def _by_score(
        self, counts: Int[np.ndarray, "replicate input"]
    ) -> Int[np.ndarray, "replicate score"]:
        if self.starts.size == self.order.size:
            return counts
        return np.add.reduceat(counts, self.starts, axis=1)


def _replicates(
    measured: Sequence[Figure],
    fits: Sequence[_Ordered],
    replicates: int,
    generator: np.random.Generator,
) -> Float64[np.ndarray, "figure replicate"]:
    """Measure redrawn inputs, and average over redrawn fits."""
    normal = fits[0].num_normal
    anomalous = fits[0].order.size - normal
    # A few at a time: every replicate holds several numbers for each input.
    per_pass = max(1, _NUMBERS // (normal + anomalous))
    drawn = []
    for start in range(0, replicates, per_pass):
        count = min(per_pass, replicates - start)
        times = np.concatenate(
            [_times(normal, count, generator), _times(anomalous, count, generator)], axis=1
        )
        weight = _times(len(fits), count, generator) / len(fits)
        tallies = [one.tally_of(times) for one in fits]
        of_fits = np.array([[figure(one) for figure in measured] for one in tallies])
        drawn.append(np.einsum("rf,fmr->mr", weight, of_fits))
    return np.concatenate(drawn, axis=1)


def _times(
    size: int, replicates: int, generator: np.random.Generator
) -> Int[np.ndarray, "replicate input"]:
    """Draw ``size`` of as many with replacement, and count how often each was drawn."""
    chosen = generator.integers(size, size=(replicates, size))
    chosen += size * np.arange(replicates)[:, None]
    counted = np.bincount(chosen.ravel(), minlength=replicates * size).reshape(replicates, size)
    return counted.astype(np.int32)  # half the memory: every number is read a dozen times
