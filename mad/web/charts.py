"""Histograms as geometry: where the bars, ticks and marks of a drawing go.

The drawing is 480 units wide and 150 high; the page scales it. Pure arithmetic: colours are the
style sheet's, markup the template's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from mad.web.figures import Calibration, Counts

WIDTH: Final = 480.0
HEIGHT: Final = 150.0
_FLOOR: Final = 124.0
_TOP: Final = 24.0
_TICKS: Final = 5


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """One bin. ``expected_y`` is the height it was promised to have; None where none was."""

    x: float
    y: float
    width: float
    height: float
    expected_y: float | None
    is_alarm: bool
    title: str


@final
@dataclass(frozen=True, slots=True)
class Label:
    """A word at a place on the axis."""

    x: float
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


def p_value_chart(p_values: Counts, *, nominal: float) -> Chart:
    """Draw the share of inputs in each bin beside the share a calibrated p-value puts there.

    Heights are square roots of shares, so that a bin of one in a thousand can be seen.
    """
    edges = p_values.edges
    widths = [upper - lower for lower, upper in zip((0.0, *edges[:-1]), edges, strict=True)]
    shares = [count / p_values.total for count in p_values.counts[: len(edges)]]
    tallest = math.sqrt(max(*shares, *widths))
    slot = WIDTH / len(edges)
    bars = tuple(
        _bar(
            slot * place,
            slot,
            math.sqrt(share) / tallest,
            expected=math.sqrt(width) / tallest,
            is_alarm=upper <= nominal,
            title=f"p at most {upper:g}: {share:.3%} of inputs, {width:.3%} promised",
        )
        for place, (upper, share, width) in enumerate(zip(edges, shares, widths, strict=True))
    )
    alarms = sum(edge <= nominal for edge in edges)
    return Chart(bars, _ticks((0.0, *edges), slot), Label(slot * alarms, f"alert at {nominal:g}"))


def surprise_chart(surprises: Counts, *, threshold_bits: float | None) -> Chart:
    """Draw the share of inputs in each bin of surprise, over the bins that hold any."""
    filled = [place for place, count in enumerate(surprises.counts) if count]
    if not filled:
        return Chart((), (), None)
    first, last = filled[0], filled[-1]
    uppers = (*surprises.edges, math.inf)[first : last + 1]
    lowers = (-math.inf, *surprises.edges)[first : last + 1]
    shares = [count / surprises.total for count in surprises.counts[first : last + 1]]
    slot = WIDTH / len(shares)
    bars = tuple(
        _bar(
            slot * place,
            slot,
            share / max(shares),
            is_alarm=threshold_bits is not None and lower >= threshold_bits,
            title=f"{_span(lower, upper)}: {share:.2%} of inputs",
        )
        for place, (lower, upper, share) in enumerate(zip(lowers, uppers, shares, strict=True))
    )
    mark = None
    if threshold_bits is not None:
        mark = _mark(threshold_bits, lowers, uppers, slot)
    return Chart(bars, _ticks((lowers[0], *uppers), slot), mark)


def _bar(
    x: float,
    slot: float,
    height: float,
    *,
    is_alarm: bool,
    title: str,
    expected: float | None = None,
) -> Bar:
    """Place one bar; ``height`` and ``expected`` are shares of the tallest."""
    room = _FLOOR - _TOP
    return Bar(
        x=x + slot * 0.08,
        y=_FLOOR - room * height,
        width=slot * 0.84,
        height=room * height,
        expected_y=None if expected is None else _FLOOR - room * expected,
        is_alarm=is_alarm,
        title=title,
    )


def _ticks(edges: Sequence[float], slot: float) -> tuple[Label, ...]:
    """Name as many of the bins' edges as can be read, the first and the one after the last too."""
    step = max(1, math.ceil((len(edges) - 1) / _TICKS))
    return tuple(
        Label(slot * place, f"{edge:g}")
        for place, edge in enumerate(edges)
        if place % step == 0 and math.isfinite(edge)
    )


def _mark(
    threshold: float, lowers: Sequence[float], uppers: Sequence[float], slot: float
) -> Label | None:
    """Place the threshold inside its bin."""
    for place, (lower, upper) in enumerate(zip(lowers, uppers, strict=True)):
        if lower <= threshold < upper:
            inside = (threshold - lower) / (upper - lower) if math.isfinite(upper - lower) else 0.5
            return Label(slot * (place + inside), f"alert above {threshold:.0f}")
    return None


def _span(lower: float, upper: float) -> str:
    if math.isinf(upper):
        return f"above {lower:g} bits"
    return f"at most {upper:g} bits" if math.isinf(lower) else f"{lower:g} to {upper:g} bits"
