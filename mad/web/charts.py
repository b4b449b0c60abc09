"""Figures as geometry: where the bars, lines, ticks and marks of a drawing go.

A drawing is 480 units wide, the map a square; the page scales them. Pure arithmetic: colours are
the style sheet's, markup the template's.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from mad.types import Alert, Measure
from mad.web.figures import Calibration, Counts

WIDTH: Final = 480.0
HEIGHT: Final = 150.0
_FLOOR: Final = 124.0
_TOP: Final = 24.0
MOST_BITS: Final = 14
"""Rarity that the axis of curves ends at."""
_SLOPE: Final = WIDTH / MOST_BITS
_DEEPEST: Final = 184.0
SIDE: Final = 220.0
"""Width and height of the map."""


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """One bin; ``expected_y`` is where it was promised to reach."""

    x: float
    y: float
    width: float
    height: float
    expected_y: float
    is_alarm: bool
    title: str


@final
@dataclass(frozen=True, slots=True)
class Label:
    """A word at a place on an axis."""

    at: float
    text: str


@final
@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing; ``mark`` is the line that alarms begin at, None if it lies outside."""

    bars: tuple[Bar, ...]
    ticks: tuple[Label, ...]
    mark: Label | None
    floor: float = _FLOOR
    top: float = _TOP
    width: float = WIDTH
    height: float = HEIGHT


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One measure's points, as SVG writes them."""

    measure: Measure
    points: str


@final
@dataclass(frozen=True, slots=True)
class Curves:
    """Lines over one pair of axes, with ticks along both; ``mark`` as in a chart."""

    lines: tuple[Line, ...]
    bits: tuple[Label, ...]
    shares: tuple[Label, ...]
    mark: Label | None
    floor: float = _DEEPEST
    top: float = _TOP
    width: float = WIDTH
    height: float = _DEEPEST + HEIGHT - _FLOOR


@final
@dataclass(frozen=True, slots=True)
class Spot:
    """Where an alert is drawn."""

    x: float
    y: float
    alert: Alert


@final
@dataclass(frozen=True, slots=True)
class Map:
    """A square of alerts; both axes have the same ticks."""

    spots: tuple[Spot, ...]
    ticks: tuple[Label, ...]
    side: float = SIDE


@final
@dataclass(frozen=True, slots=True)
class Ruler:
    """Rates on one line from 0 to ``end``: where the promise lies, and what was observed."""

    promised_x: float
    promised_width: float
    low_x: float
    high_x: float
    observed_x: float
    end: float
    width: float = WIDTH


def ruler(calibration: Calibration) -> Ruler:
    """Draw the observed rate and its interval over the promised interval."""
    observed, promised = calibration.observed, calibration.promised
    end = min(1.0, 1.1 * max(observed.high, promised.high, 2 * calibration.nominal))
    scale = WIDTH / end
    return Ruler(
        promised_x=scale * promised.low,
        promised_width=max(2.0, scale * (promised.high - promised.low)),
        low_x=scale * observed.low,
        high_x=scale * observed.high,
        observed_x=scale * calibration.rate,
        end=end,
    )


def binned(
    *,
    shares: Sequence[float],
    promised: Sequence[float],
    names: Sequence[str],
    ticks: Sequence[str],
    threshold: float | None,
) -> Chart:
    """Draw the share of inputs in each bin of one bit beside the share that was promised.

    ``threshold`` is in bins from the left; None marks nothing.
    """
    tallest = math.sqrt(max(*shares, *promised))
    slot = WIDTH / len(shares)
    bars = tuple(
        _bar(
            slot * place,
            slot,
            math.sqrt(share) / tallest,
            expected=math.sqrt(wanted) / tallest,
            is_alarm=threshold is not None and place >= threshold,
            title=f"{name}: {share:.3%} of inputs, {wanted:.3%} promised",
        )
        for place, (share, wanted, name) in enumerate(zip(shares, promised, names, strict=True))
    )
    mark = None
    if threshold is not None and 0 <= threshold <= len(shares):
        mark = Label(slot * threshold, f"alert above {threshold:.1f}")
    labels = tuple(Label(slot * place, text) for place, text in enumerate(ticks) if place % 2 == 0)
    return Chart(bars, labels, mark)


def rarity_chart(rarities: Mapping[Measure, Counts], *, threshold_bits: float | None) -> Curves:
    """Draw the share of inputs above each rarity, on a log axis: the promise is a straight line.

    Of trusted inputs, one in ``2 ** bits`` is above ``bits``, from corner to corner. A line ends
    where no input is above.
    """
    lines = tuple(
        Line(measure, " ".join(f"{x:.1f},{y:.1f}" for x, y in _survival(counts)))
        for measure, counts in rarities.items()
    )
    mark = None
    if threshold_bits is not None and 0 <= threshold_bits <= MOST_BITS:
        mark = Label(_SLOPE * threshold_bits, f"alert above {threshold_bits:.1f}")
    bits = tuple(Label(_SLOPE * tick, str(tick)) for tick in range(0, MOST_BITS + 1, 2))
    shares = tuple(Label(_depth(10.0**-power), f"{10.0 ** (2 - power):g} %") for power in range(5))
    return Curves(lines, bits, shares, mark)


def _survival(counts: Counts) -> Iterator[tuple[float, float]]:
    within = 0
    for edge, count in zip(counts.edges, counts.counts, strict=False):
        within += count
        if edge > MOST_BITS or within == counts.total:
            return
        yield _SLOPE * edge, _depth(1 - within / counts.total)


def _depth(share: float) -> float:
    """Return how far down a share is drawn."""
    return min(_TOP - math.log2(share) * (_DEEPEST - _TOP) / MOST_BITS, _DEEPEST)


def alert_map(alerts: Sequence[Alert]) -> Map:
    """Place each alert by its mechanism to the right and its novelty upwards.

    An alert whose bits were not measured has no place.
    """
    spots = tuple(
        Spot(
            _reach(alert.verdict.mechanism_bits),
            SIDE - _reach(alert.verdict.novelty_bits),
            alert,
        )
        for alert in alerts
        if not math.isnan(alert.verdict.mechanism_bits + alert.verdict.novelty_bits)
    )
    return Map(
        spots, tuple(Label(_reach(bits), f"{bits:g}") for bits in (0, 1, 3, 7, 20, 100, 1000))
    )


def _reach(bits: float) -> float:
    """Return how far along an axis that grows ever slower so many bits are, at most its end."""
    return SIDE * min(math.log1p(bits) / math.log1p(1000), 1.0)


def _bar(
    x: float,
    slot: float,
    height: float,
    *,
    is_alarm: bool,
    title: str,
    expected: float,
) -> Bar:
    """Place one bar; ``height`` and ``expected`` are shares of the tallest."""
    room = _FLOOR - _TOP
    return Bar(
        x=x + slot * 0.08,
        y=_FLOOR - room * height,
        width=slot * 0.84,
        height=room * height,
        expected_y=_FLOOR - room * expected,
        is_alarm=is_alarm,
        title=title,
    )
