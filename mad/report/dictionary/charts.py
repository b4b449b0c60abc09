"""Figures as geometry: where bars, boxes, points and ticks of the page's drawings go.

A drawing is 480 units wide; the page scales it. Pure arithmetic: colours and markup are the page's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from mad.report.dictionary.figures import Distribution, Histogram
from mad.report.dictionary.report import DictionaryReport

WIDTH: Final = 480.0
FLOOR, TOP = 124.0, 14.0
_LEFT: Final = 40.0


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """One bin, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    title: str


@final
@dataclass(frozen=True, slots=True)
class Tick:
    """A word at a place on an axis."""

    at: float
    text: str


@final
@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram of log10 rates."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def rates(histogram: Histogram) -> Bars:
    """Draw firing rates on a log axis, one tick a decade."""
    low, high = histogram.edges[0], histogram.edges[-1]
    most = max(*histogram.counts, 1)

    def across(edge: float) -> float:
        return WIDTH * (edge - low) / (high - low)

    bars = []
    edges = zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False)
    for start, end, count in edges:
        height = (FLOOR - TOP) * count / most
        words = f"{count} latents at rates {10**start:.2g} to {10**end:.2g}"
        x = across(start)
        bars.append(Bar(x + 1, FLOOR - height, across(end) - x - 2, height, words))
    ticks = [
        Tick(across(float(n)), f"{10.0**n:g}") for n in range(math.ceil(low), math.floor(high) + 1)
    ]
    return Bars(tuple(bars), tuple(ticks))


@final
@dataclass(frozen=True, slots=True)
class Box:
    """The places of the quantiles of a distribution, and of its mean, along an axis from zero."""

    low: float
    first: float
    middle: float
    third: float
    high: float
    mean: float
    end: str


def box(distribution: Distribution) -> Box | None:
    """Draw a distribution of what is never negative; None of no values."""
    largest = max(*distribution.quantiles, distribution.mean)
    if not (math.isfinite(largest) and largest > 0):
        return None
    low, first, middle, third, high = (WIDTH * value / largest for value in distribution.quantiles)
    mean = WIDTH * distribution.mean / largest
    return Box(low, first, middle, third, high, mean, end=f"{largest:.3g}")


@final
@dataclass(frozen=True, slots=True)
class Point:
    """One dictionary among all."""

    x: float
    y: float
    title: str


@final
@dataclass(frozen=True, slots=True)
class Frontier:
    """Every dictionary by how many latents are active and how much is left over."""

    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def frontier(report: DictionaryReport) -> Frontier:
    """Draw the share of variance left over against mean active latents, both from zero."""
    active = [one.use.active.mean for one in report.dictionaries]
    missed = [one.reconstruction.unexplained_variance for one in report.dictionaries]
    right, top = (_round_up(max(values)) for values in (active, missed))

    def across(value: float) -> float:
        return _LEFT + (WIDTH - 2 * _LEFT) * value / right

    def up(value: float) -> float:
        return FLOOR - (FLOOR - TOP) * value / top

    points = [
        Point(across(x), up(y), f"{one.view}: {x:.1f} active, FVU {y:.4f}")
        for one, x, y in zip(report.dictionaries, active, missed, strict=True)
    ]
    return Frontier(
        tuple(points),
        tuple(Tick(across(right * share), f"{right * share:g}") for share in (0, 0.5, 1)),
        tuple(Tick(up(top * share), f"{top * share:g}") for share in (0, 0.5, 1)),
    )


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """How alike two dictionaries are: debiased CKA, from 0 to 1 as strong as the cell's colour."""

    text: str
    strength: float


@final
@dataclass(frozen=True, slots=True)
class Alike:
    """A square of dictionaries by dictionaries; None where two were not compared."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell | None, ...], ...]


def alike(report: DictionaryReport) -> Alike | None:
    """Draw debiased CKA of all pairs; None where there are none."""
    pairs = {(one.first, one.second): one.similarity.cka_debiased for one in report.comparisons}
    pairs |= {(second, first): value for (first, second), value in pairs.items()}
    names = tuple(dict.fromkeys(name for pair in pairs for name in pair))
    return Alike(names, tuple(_row(name, names, pairs) for name in names)) if names else None


def _row(
    name: str, names: Sequence[str], pairs: dict[tuple[str, str], float]
) -> tuple[Cell | None, ...]:
    own = {**pairs, (name, name): 1.0}
    return tuple(
        Cell(f"{value:.2f}", min(max(value, 0.0), 1.0))
        if math.isfinite(value := own.get((name, other), math.nan))
        else None
        for other in names
    )


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5 or 10 times a power of ten; one of nothing."""
    if not (math.isfinite(value) and value > 0):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-12))
