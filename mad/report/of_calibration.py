"""The report of calibration: what was promised, what was observed, and what has moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from mad.report.drawing import Bars, Rate, bars, intervals
from mad.report.sheet import Section, Sheet, Table, facts, share

_DOUBT: Final = 0.01


@final
@dataclass(frozen=True, slots=True)
class Moved:
    """A component that is used more or less than in trusted data."""

    view: str
    component: int
    trusted_rate: float
    observed_rate: float
    saved_bits: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was observed of one kind of traffic; ``recent_rates`` is of the last inputs alone."""

    traffic: str
    revision: str
    begin: datetime
    inputs: int
    rates: tuple[Rate, ...]
    gap: float
    gap_p_value: float
    moved: tuple[Moved, ...]
    summary: str
    wealth_log10: float
    recent_inputs: int
    recent_rates: tuple[Rate, ...]
    recent_gap: float
    site_drifts: tuple[tuple[str, float], ...]


def calibration_sheet(kinds: Sequence[Observed], *, origin: str, time: datetime) -> Sheet:
    """Report on each kind of traffic that there was; the first says which version scored."""
    return Sheet(
        f"Calibration of {kinds[0].revision}",
        f"By {origin}, {time:%Y-%m-%d %H:%M} UTC.",
        tuple(_kind(one) for one in kinds),
    )


def _kind(one: Observed) -> Section:
    title = f"{one.traffic.capitalize()} traffic"
    if not one.inputs:
        return Section(title=title, prose="No inputs of this kind have been scored.")
    # Planted anomalies are to be found, so that more alarms than promised are as it should be.
    is_planted = one.traffic == "canary"
    drawn = [
        intervals(
            f"{inputs} inputs{when}. Dot and line: observed, with 99 % confidence. Red: the "
            "nominal rate. Band: where chance leaves ordinary inputs, 99 % of the time.",
            sorted(rates, key=lambda rate: rate.nominal),
        )
        for inputs, rates, when in (
            (one.inputs, one.rates, ""),
            (one.recent_inputs, one.recent_rates, " lately"),
        )
        if inputs and (not when or inputs < one.inputs)
    ]
    is_bad = one.gap_p_value < _DOUBT and not is_planted
    return Section(
        title=title,
        prose=one.summary,
        standing="" if is_planted else "bad" if is_bad else "ok",
        drawings=(*drawn, *_drift(one)),
        tables=(
            facts("", _facts(one)),
            Table(
                "Planted anomalies found at each rate" if is_planted else "Observed and promised",
                ("nominal", "observed", "at least", "at most", "by chance from", "to"),
                tuple(_row(rate) for rate in sorted(one.rates, key=lambda rate: rate.nominal)),
            ),
            *(
                [Table("Components whose use has moved furthest", _COLUMNS, _moved(one.moved))]
                if one.moved
                else []
            ),
        ),
    )


_COLUMNS: Final = ("view", "component", "in trusted data", "observed", "bits an input")


def _drift(one: Observed) -> list[Bars]:
    if not any(bits > 0 for _, bits in one.site_drifts):
        return []
    caption = "Drift by site lately: bits an input that newly fitted rates of use would save."
    return [bars(caption, one.site_drifts, unit="bits")]


def _facts(one: Observed) -> list[tuple[str, str]]:
    rows = [
        ("inputs", f"{one.inputs} since {one.begin:%Y-%m-%d %H:%M} UTC"),
        (
            "gap to the promise (Kolmogorov and Smirnov)",
            f"{one.gap:.3g}, p-value {one.gap_p_value:.2g}",
        ),
    ]
    if one.recent_inputs:
        rows.append(("gap of the last inputs", f"{one.recent_gap:.3g} of {one.recent_inputs}"))
    if one.traffic == "trusted":
        chance = share(min(1.0, 10.0**-one.wealth_log10))
        rows.append(
            (
                "evidence of lost calibration",
                f"10 to the power of {one.wealth_log10:.2f}: ever reached by chance in at most "
                f"{chance} of streams",
            )
        )
    return rows


def _row(rate: Rate) -> tuple[str, ...]:
    return tuple(
        share(one)
        for one in (
            *(rate.nominal, rate.observed, rate.low, rate.high),
            *(rate.chance_low, rate.chance_high),
        )
    )


def _moved(moved: Sequence[Moved]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            one.view,
            str(one.component),
            share(one.trusted_rate),
            share(one.observed_rate),
            f"{one.saved_bits:.3g}",
        )
        for one in moved
    )
