"""Drawings of reports as geometry: where bars, lines, dots and words go.

A drawing is 480 units wide; the page scales it. Pure arithmetic: colours and markup are the page's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, final

WIDTH: Final = 480.0
_ROW: Final = 24.0
_NAMES: Final = 190.0
_VALUES: Final = 62.0
_FLOOR, _TOP, _LEFT = 130.0, 14.0, 50.0
_TICKS: Final = 6
_LONGEST: Final = 22
_SMALL: Final = 0.1
_WIDEST: Final = 60.0
_KEPT: Final = 50


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ``name`` and ``value`` are beside or under it, ``title`` is its whole story."""

    name: str
    value: str
    title: str
    x: float
    y: float
    width: float
    height: float


@final
@dataclass(frozen=True, slots=True)
class Tick:
    """A word at a place on an axis."""

    at: float
    text: str


@final
@dataclass(frozen=True, slots=True)
class Bars:
    """Named amounts, one below the other."""

    kind: ClassVar = "bars"
    caption: str
    bars: tuple[Bar, ...]
    height: float


@final
@dataclass(frozen=True, slots=True)
class Columns:
    """Amounts in order, beside each other."""

    kind: ClassVar = "columns"
    caption: str
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    most: str
    floor: float = _FLOOR
    top: float = _TOP


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One named line, as SVG writes its points."""

    name: str
    points: str


@final
@dataclass(frozen=True, slots=True)
class Curves:
    """Shares of inputs above so many bits, on a log axis; a promise is the diagonal."""

    kind: ClassVar = "curves"
    caption: str
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    left: float = _LEFT
    floor: float = 190.0
    top: float = _TOP
    is_promised: bool = True


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """What was observed of one nominal rate, its interval, and where chance leaves it."""

    nominal: float
    observed: float
    low: float
    high: float
    chance_low: float
    chance_high: float


@final
@dataclass(frozen=True, slots=True)
class Span:
    """One rate of ``Intervals``, placed."""

    y: float
    name: str
    title: str
    low: float
    high: float
    observed: float
    nominal: float
    chance: float
    chance_width: float


@final
@dataclass(frozen=True, slots=True)
class Intervals:
    """Rates on a log axis: the promise, where chance leaves it, and what was observed."""

    kind: ClassVar = "intervals"
    caption: str
    spans: tuple[Span, ...]
    ticks: tuple[Tick, ...]
    left: float
    height: float


def bars(caption: str, amounts: Sequence[tuple[str, float]], *, unit: str = "") -> Bars:
    """Draw named amounts, the first on top. What is infinite fills its row; NaN is left out."""
    kept = [(name, amount) for name, amount in amounts if not math.isnan(amount)]
    most = max((amount for _, amount in kept if math.isfinite(amount)), default=0.0)
    room = WIDTH - _NAMES - _VALUES
    drawn = []
    for place, (name, amount) in enumerate(kept):
        part = 1.0 if math.isinf(amount) else max(amount, 0.0) / most if most > 0 else 0.0
        value = _figure(amount)
        title = f"{name}: {value} {unit}".rstrip()
        drawn.append(
            Bar(shortened(name), value, title, _NAMES, place * _ROW, part * room, _ROW - 8)
        )
    return Bars(caption, tuple(drawn), _ROW * len(drawn))


def _figure(amount: float) -> str:
    """Write an amount with one decimal if it has any, with two digits where it is small."""
    if amount == _whole(amount):
        return f"{amount:,.0f}"
    return f"{amount:,.1f}" if amount >= _SMALL else f"{amount:.2g}"


def _whole(amount: float) -> float:
    """Return the whole part of an amount, itself where there is none."""
    return float(int(amount)) if math.isfinite(amount) else math.nan


def shortened(name: str) -> str:
    """Return a name with its middle left out where it is long: both ends tell names apart."""
    if len(name) <= _LONGEST:
        return name
    half = (_LONGEST - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def columns(caption: str, amounts: Sequence[tuple[str, int]]) -> Columns:
    """Draw amounts in order, with as many of their names as can be read."""
    most = max((amount for _, amount in amounts), default=0)
    slot = min((WIDTH - _LEFT) / max(len(amounts), 1), _WIDEST)
    step = max(1, math.ceil(len(amounts) / _TICKS))
    drawn = tuple(
        Bar(
            name,
            str(amount),
            f"{name}: {amount}",
            _LEFT + slot * place + 0.08 * slot,
            _FLOOR - (_FLOOR - _TOP) * amount / max(most, 1),
            0.84 * slot,
            (_FLOOR - _TOP) * amount / max(most, 1),
        )
        for place, (name, amount) in enumerate(amounts)
    )
    ticks = tuple(
        Tick(_LEFT + slot * (place + 0.5), name)
        for place, (name, _) in enumerate(amounts)
        if place % step == 0
    )
    return Columns(caption, drawn, ticks, str(most))


def curves(caption: str, rarities: Mapping[str, Sequence[float]]) -> Curves:
    """Draw, for each measure, the share of some inputs above each number of bits."""
    inputs = max((len(bits) for bits in rarities.values()), default=1)
    most = max(2, math.ceil(math.log2(max(inputs, 2))))
    floor, top = 190.0, _TOP

    def across(bits: float) -> float:
        return _LEFT + (WIDTH - _LEFT - 20) * bits / most

    def down(share: float) -> float:
        return top + (floor - top) * min(-math.log2(share) / most, 1.0)

    lines = []
    for name, bits in rarities.items():
        ordered = sorted(one for one in bits if not math.isnan(one))
        points = [
            (across(min(one, most)), down(1 - place / len(ordered)))
            for place, one in enumerate(ordered)
            if one <= most
        ]
        # A few hundred points are as good as all, but where few inputs are left.
        step = max(1, len(points) // 400)
        thin = points[:-_KEPT:step] + points[-_KEPT:]
        lines.append(Line(name, " ".join(f"{x:.1f},{y:.1f}" for x, y in thin)))
    shares = [10.0**-power for power in range(1 + int(most * math.log10(2)))]
    return Curves(
        caption,
        tuple(lines),
        tuple(Tick(across(float(bits)), str(bits)) for bits in range(0, most + 1, 2)),
        tuple(Tick(down(one), f"{100 * one:g} %") for one in shares),
    )


def traces(caption: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Curves:
    """Draw named lines of shares, by amounts of one and more on a log axis."""
    amounts = [amount for points in lines.values() for amount, _ in points]
    least, most = min(amounts, default=1.0), max(amounts, default=1.0)
    floor, decades = 190.0, max(math.log10(most / least), 1e-9)

    def across(amount: float) -> float:
        return _LEFT + (WIDTH - _LEFT - 20) * math.log10(amount / least) / decades

    def down(share: float) -> float:
        return floor - (floor - _TOP) * share

    drawn = []
    for name, points in lines.items():
        places = [f"{across(amount):.1f},{down(share):.1f}" for amount, share in points]
        drawn.append(Line(name, " ".join(places)))
    powers = range(int(math.log10(least)), int(math.log10(most)) + 1)
    marks = [each * 10.0**power for power in powers for each in (1, 2, 5)]
    return Curves(
        caption,
        tuple(drawn),
        tuple(Tick(across(mark), f"{mark:g}") for mark in marks if least <= mark <= most),
        tuple(Tick(down(part / 4), f"{25 * part} %") for part in range(5)),
        is_promised=False,
    )


def intervals(caption: str, rates: Sequence[Rate]) -> Intervals:
    """Draw rates on a log axis, from a tenth of the smallest to all."""
    lowest = min((rate.nominal for rate in rates), default=0.1) / 10
    decades = -math.log10(lowest)
    left = 80.0

    def across(share: float) -> float:
        return left + (WIDTH - left - 20) * (1 + math.log10(max(share, lowest)) / decades)

    spans = tuple(
        Span(
            y=_ROW * place + 12,
            name=f"{100 * rate.nominal:g} %",
            title=f"{rate.nominal:g}: observed {rate.observed:.3g}, between {rate.low:.3g} and "
            f"{rate.high:.3g}",
            low=across(rate.low),
            high=across(rate.high),
            observed=across(rate.observed),
            nominal=across(rate.nominal),
            chance=across(rate.chance_low),
            chance_width=max(2.0, across(rate.chance_high) - across(rate.chance_low)),
        )
        for place, rate in enumerate(rates)
    )
    powers = range(math.ceil(math.log10(lowest)), 1)
    ticks = tuple(Tick(across(10.0**power), f"{10.0 ** (power + 2):g} %") for power in powers)
    return Intervals(caption, spans, ticks, left, _ROW * len(spans) + 30)
