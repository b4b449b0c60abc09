"""A report as one page of HTML that opens anywhere: no script, no network, everything escaped."""

from dataclasses import dataclass
from typing import final

from mad.report.dictionary import charts
from mad.report.dictionary.report import DictionaryReport, Examined
from mad.report.dictionary.table import skipped, tables, title
from mad.report.templates import template


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
    return template("dictionary/page.html").render(
        title=title(report),
        skipped=skipped(report),
        tables=tables(report),
        cards=cards,
        frontier=charts.frontier(report),
        alike=charts.alike(report),
    )
