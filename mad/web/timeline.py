"""The last hour as geometry: columns of traffic, and of its share that alarms, over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import pairwise
from typing import Final, final

from mad.web.charts import WIDTH, Label
from mad.web.history import PERIOD_S, Moment

_FLOOR: Final = 104.0
_TOP: Final = 12.0
MOST_COLUMNS: Final = 60
_LEVELS: Final = 2
_CLOSEST: Final = 90.0
"""Widths between labels of time, at least."""
_LAST: Final = WIDTH - 58.0
"""Where a label may begin, at most, to be read whole."""


@final
@dataclass(frozen=True, slots=True)
class Column:
    """One stretch of time; of no height where there is nothing to tell."""

    x: float
    y: float
    width: float
    height: float
    is_beyond: bool
    title: str


@final
@dataclass(frozen=True, slots=True)
class Timeline:
    """Columns from left to right; ``line`` is the level they are held against, if any."""

    columns: tuple[Column, ...]
    times: tuple[Label, ...]
    levels: tuple[Label, ...]
    line: Label | None
    floor: float = _FLOOR
    top: float = _TOP
    width: float = WIDTH
    height: float = _FLOOR + 26


@final
@dataclass(frozen=True, slots=True)
class _Stretch:
    """What happened between two moments."""

    begin: Moment
    end: Moment

    @property
    def seconds(self) -> float:
        return max((self.end.time - self.begin.time).total_seconds(), 1e-3)

    @property
    def inputs(self) -> int:
        return self.end.tally.inputs - self.begin.tally.inputs

    @property
    def live(self) -> int:
        return self.end.tally.live - self.begin.tally.live

    @property
    def alarms(self) -> int:
        return self.end.tally.live_alarms - self.begin.tally.live_alarms

    @property
    def clock(self) -> str:
        return f"{self.begin.time.astimezone(UTC):%H:%M:%S}"


def traffic(moments: Sequence[Moment]) -> Timeline:
    """Draw inputs a second, of every kind of traffic."""
    stretches = _stretches(moments)
    rates = [one.inputs / one.seconds for one in stretches]
    end = _round_end(max(rates, default=0.0), least=1.0)
    titles = [
        f"{one.clock}: {rate:,.3g} inputs a second"
        for one, rate in zip(stretches, rates, strict=True)
    ]
    levels = tuple(
        Label(_height(step / _LEVELS), f"{end * step / _LEVELS:,.4g}")
        for step in range(_LEVELS + 1)
    )
    columns = _columns([rate / end for rate in rates], titles, beyond=math.inf)
    return Timeline(columns, _times(stretches), levels, None)


def alarms(moments: Sequence[Moment], *, nominal: float | None) -> Timeline:
    """Draw the share of live inputs that alarm; ``nominal`` is the promised one, if it is one."""
    stretches = _stretches(moments)
    rates = [one.alarms / one.live if one.live else 0.0 for one in stretches]
    end = min(1.0, _round_end(max([*rates, 2 * (nominal or 0.0)]), least=1e-3))
    titles = [f"{one.clock}: {one.alarms:,} of {one.live:,} live inputs alarm" for one in stretches]
    levels = tuple(
        Label(_height(step / _LEVELS), f"{100 * end * step / _LEVELS:.3g} %")
        for step in range(_LEVELS + 1)
    )
    beyond = math.inf if nominal is None else nominal / end
    columns = _columns([rate / end for rate in rates], titles, beyond=beyond)
    line = None if nominal is None else Label(_height(nominal / end), f"promised {nominal:.3g}")
    return Timeline(columns, _times(stretches), levels, line)


def _stretches(moments: Sequence[Moment]) -> list[_Stretch]:
    """Join steps until there are few enough; a stretch ends at a round time, so none moves."""
    if len(moments) <= 1:
        return []
    span_s = (moments[-1].time - moments[0].time).total_seconds()
    step_s = max(PERIOD_S, PERIOD_S * math.ceil(span_s / PERIOD_S / MOST_COLUMNS))
    kept = [moments[0]]
    for before, moment in pairwise(moments):
        if before.time.timestamp() // step_s != moment.time.timestamp() // step_s:
            kept.append(moment)
    ends = kept if kept[-1] is moments[-1] else [*kept, moments[-1]]
    return [_Stretch(begin, end) for begin, end in pairwise(ends)]


def _columns(
    shares: Sequence[float], titles: Sequence[str], *, beyond: float
) -> tuple[Column, ...]:
    slot = WIDTH / max(len(shares), 12)
    # Against the right edge, where now is.
    left = WIDTH - slot * len(shares)
    return tuple(
        Column(
            x=left + slot * (place + 0.08),
            y=_height(share),
            width=slot * 0.84,
            height=_FLOOR - _height(share),
            is_beyond=share > beyond,
            title=title,
        )
        for place, (share, title) in enumerate(zip(shares, titles, strict=True))
    )


def _times(stretches: Sequence[_Stretch]) -> tuple[Label, ...]:
    slot = WIDTH / max(len(stretches), 12)
    left = WIDTH - slot * len(stretches)
    step = max(1, math.ceil(_CLOSEST / slot))
    labels = [
        Label(left + slot * place, stretches[place].clock)
        for place in range(0, len(stretches), step)
    ]
    whole = [label for label in labels if label.at <= _LAST]
    return tuple(whole or [Label(_LAST, label.text) for label in labels[:1]])


def _height(share: float) -> float:
    return _FLOOR - (_FLOOR - _TOP) * min(share, 1.0)


def _round_end(largest: float, *, least: float) -> float:
    """Return the end of an axis: one, two or five times a power of ten."""
    wanted = max(largest, least)
    power: float = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * 0.999)
