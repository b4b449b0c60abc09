"""A report as one page of HTML that opens anywhere: no script, no network, everything escaped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mad.report.dictionary import charts
from mad.report.dictionary.report import DictionaryReport, Examined
from mad.report.dictionary.table import skipped, tables, title

_pages: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@final
@dataclass(frozen=True, slots=True)
class _Card:
    """One dictionary with its drawings."""

    own: Examined
    rates: charts.Bars
    active: charts.Box | None
    magnitudes: charts.Box | None


def as_page(report: DictionaryReport) -> str:
    """Write the page."""
    cards = [
        _Card(
            one,
            charts.rates(one.use.rates),
            charts.box(one.use.active),
            charts.box(one.use.magnitudes),
        )
        for one in report.dictionaries
    ]
    return _pages.get_template("page.html").render(
        title=title(report),
        skipped=skipped(report),
        tables=tables(report),
        cards=cards,
        frontier=charts.frontier(report),
        alike=charts.alike(report),
    )
