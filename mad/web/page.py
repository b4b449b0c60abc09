"""The page as text: figures, alerts and baselines in, one HTML document out, everything escaped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mad.baseline.bundle import Manifest
from mad.types import Alert
from mad.web import charts
from mad.web.figures import Calibration, Figures

STYLE: Final = (Path(__file__).parent / "style.css").read_text()

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@final
@dataclass(frozen=True, kw_only=True)
class Content:
    """What one page shows.

    ``alerts_problem`` says why the alerts could not be read, and is empty if they were.
    ``open_alert`` is the id of an alert to show in full; ``is_paused`` stops the page from
    reloading itself.
    """

    model: str
    is_ready: bool
    now: datetime
    figures: Figures
    baselines: Sequence[Manifest]
    alerts: Sequence[Alert]
    alerts_problem: str
    open_alert: str
    is_paused: bool


@final
@dataclass(frozen=True, slots=True)
class _Panel:
    """One kind of traffic under one baseline, with its drawings."""

    calibration: Calibration
    ruler: charts.Ruler
    p_values: charts.Chart
    rarities: charts.Curves


def render(content: Content) -> str:
    """Write the page."""
    thresholds = {
        manifest.name: manifest.threshold_bits
        for manifest in content.baselines
        if not manifest.by_context
    }
    panels = [
        _Panel(
            each,
            charts.ruler(each),
            charts.p_value_chart(each.p_values, nominal=each.nominal),
            charts.rarity_chart(each.rarities, threshold_bits=thresholds.get(each.baseline)),
        )
        for each in content.figures.calibrations
    ]
    placed = charts.alert_map(content.alerts)
    return _pages.get_template("page.html").render(content=content, panels=panels, map=placed)


def _count(number: int) -> str:
    return f"{number:,}"


def _bits(bits: float) -> str:
    if math.isnan(bits):
        return "n/a"
    return f"{bits:,.1f}" if math.isfinite(bits) else "∞"


def _strength(magnitude: float) -> str:
    return f"{magnitude:.3g}" if math.isfinite(magnitude) else "not finite"


def _filled(value: float, largest: float) -> str:
    """Say how much of a meter is filled, in percent; infinity fills it, the unmeasured does not."""
    if not math.isfinite(value):
        return "0.00" if math.isnan(value) else "100"
    return f"{100 * abs(value) / largest if largest else 0:.2f}"


def _share(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


_pages.filters.update(
    count=_count, bits=_bits, strength=_strength, filled=_filled, share=_share, moment=_moment
)
_pages.tests["infinite"] = math.isinf
