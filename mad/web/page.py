"""Pages as text: values in, one HTML document out, everything escaped."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mad.web.behind import Visitor

_HERE: Final = Path(__file__).parent

STYLE: Final = (_HERE / "style.css").read_text()
SCRIPT: Final = (_HERE / "live.js").read_text()
RELOAD_S: Final = 5
"""Seconds between one look of an open page and the next."""

_pages = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@final
@dataclass(frozen=True, kw_only=True)
class Frame:
    """What is around every page.

    ``is_paused``, as ``reload_s`` of 0, stops it from reloading itself. Forms carry ``form_token``;
    who signs in comes back to ``at``. Where nobody ``is_asking``, there is no signing in.
    """

    model: str
    is_ready: bool
    now: datetime
    is_paused: bool = False
    reload_s: int = RELOAD_S
    visitor: Visitor
    is_asking: bool
    form_token: str
    at: str


def render(template: str, frame: Frame, **shown: object) -> str:
    """Write a page; ``shown`` is what its template names."""
    return _pages.get_template(template).render(frame=frame, **shown)


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


def _root(bits: float) -> float:
    """Return a length that lets few bits be seen beside many; below zero for a saving."""
    return math.copysign(math.sqrt(abs(bits)), bits)


def _share(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def segment(text: str) -> str:
    """Write text as one segment of a path."""
    return quote(text, safe="", errors="replace")


_pages.filters.update(
    count=_count,
    bits=_bits,
    strength=_strength,
    filled=_filled,
    root=_root,
    share=_share,
    moment=_moment,
    segment=segment,
)
_pages.tests["infinite"] = math.isinf
