"""A report as values: sections of prose, facts, tables and drawings; and how it becomes a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from mad.report.drawing import Bars, Columns, Curves, Intervals
from mad.report.templates import template

Drawing: TypeAlias = Bars | Columns | Curves | Intervals


@final
@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; ``is_facts`` for names and values without one."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_facts: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading and what is below it; ``standing`` colours the prose."""

    title: str
    prose: str = ""
    standing: str = ""
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole report."""

    title: str
    prose: str
    sections: tuple[Section, ...]


def as_page(sheet: Sheet) -> str:
    """Write the page: no script, no network, everything escaped."""
    return template("sheet.html").render(sheet=sheet)


def facts(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    """Return names and values."""
    return Table(title, (), tuple(rows), is_facts=True)


def number(value: float) -> str:
    """Write a number of bits; nothing for what was not measured."""
    if math.isnan(value):
        return ""
    return f"{value:.1f}" if math.isfinite(value) else "infinitely many"


def share(value: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * value:.3g} %"
