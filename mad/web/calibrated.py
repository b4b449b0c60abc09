"""Calibration as geometry: the share at or under each p-value over the promise, with its band."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

from mad.calibration.health import Interval, binomial_interval, promised_interval
from mad.web.charts import WIDTH, Chart, Label, binned
from mad.web.figures import CONFIDENCE, Calibration, Counts

_FLOOR: Final = 200.0
_TOP: Final = 10.0
DECADES: Final = 4
"""Powers of ten along both axes, down from one."""
_LEAST: Final = 10.0**-DECADES
_SURPRISE_BINS: Final = 14


@final
@dataclass(frozen=True, slots=True)
class Dot:
    """The observed share at one p-value, None where it is zero, with the ends of its interval."""

    x: float
    y: float | None
    low_y: float
    high_y: float
    is_alarm: bool
    title: str


@final
@dataclass(frozen=True, slots=True)
class Plot:
    """Dots over a band, both axes logarithmic; ``band`` is a polygon, as SVG writes it."""

    dots: tuple[Dot, ...]
    band: str
    ticks: tuple[Label, ...]
    levels: tuple[Label, ...]
    mark: Label
    floor: float = _FLOOR
    top: float = _TOP
    width: float = WIDTH
    height: float = _FLOOR + 42


def calibration_plot(calibration: Calibration) -> Plot:
    """Draw the share of inputs at or under each p-value.

    Ordinary inputs lie on the diagonal, on average over references; the band holds them for 99 % of
    references of this size, and the dots' intervals hold the true share with 99 % confidence.
    """
    counts = calibration.p_values
    edges = [edge for edge in counts.edges if _LEAST <= edge <= 1.0]
    promised = [_promised(edge, calibration.reference) for edge in edges]
    across = [(_x(edge), _y(one.high)) for edge, one in zip(edges, promised, strict=True)]
    back = [(_x(edge), _y(one.low)) for edge, one in zip(edges, promised, strict=True)][::-1]
    return Plot(
        dots=tuple(_dot(counts, edge, calibration.nominal) for edge in edges),
        band=" ".join(f"{x:.1f},{y:.1f}" for x, y in (*across, *back)),
        ticks=tuple(Label(_x(10.0**-power), f"{10.0**-power:g}") for power in range(DECADES + 1)),
        levels=tuple(
            Label(_y(10.0**-power), f"{10.0 ** (2 - power):g} %") for power in range(DECADES + 1)
        ),
        mark=Label(_x(calibration.nominal), f"alert at {calibration.nominal:g}"),
    )


def surprise_chart(counts: Counts, *, threshold_bits: float | None) -> Chart:
    """Draw the share of inputs of each surprise, in bins of one bit, beside the promised one.

    Heights are square roots of shares, so that one input in a thousand can be seen.
    """
    lower = range(_SURPRISE_BINS + 1)
    within = [counts.at_most(float(bits)) for bits in lower]
    least = [0, *within[1:]]
    inside = [
        upper - below for below, upper in zip(least, [*within[1:], counts.total], strict=True)
    ]
    promised = [2.0**-bits - 2.0 ** -(bits + 1) for bits in lower[:-1]] + [2.0**-_SURPRISE_BINS]
    names = [f"{bits} to {bits + 1} bits" for bits in lower[:-1]] + [f"over {_SURPRISE_BINS} bits"]
    return binned(
        shares=[count / max(counts.total, 1) for count in inside],
        promised=promised,
        names=names,
        ticks=[str(bits) for bits in lower],
        threshold=threshold_bits,
    )


def _dot(counts: Counts, edge: float, nominal: float) -> Dot:
    under = counts.at_most(edge)
    interval = binomial_interval(under, counts.total, confidence=CONFIDENCE)
    return Dot(
        x=_x(edge),
        y=_y(under / counts.total) if under else None,
        low_y=_y(interval.low),
        high_y=_y(interval.high),
        is_alarm=edge <= nominal,
        title=f"p at most {edge:g}: {under:,} of {counts.total:,} inputs",
    )


@lru_cache(maxsize=1024)
def _promised(rate: float, reference: int) -> Interval:
    return promised_interval(rate, reference, confidence=CONFIDENCE) if rate < 1 else Interval(1, 1)


def _x(p: float) -> float:
    return WIDTH * (1 + math.log10(max(p, _LEAST)) / DECADES)


def _y(share: float) -> float:
    return _TOP - (_FLOOR - _TOP) * math.log10(max(share, _LEAST)) / DECADES
