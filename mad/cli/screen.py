"""What a person at a terminal sees: tables, progress bars, and one red sentence for an error.

Text is shown as it is, never as markup: names and request ids are other people's.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    # Importing it would import torch, and every command would start slowly.
    from mad.types import Progress as Report

OUT = Console()
"""Results."""

ERRORS = Console(stderr=True)
"""Progress and errors, so that results can be piped."""


WIDEST = 400
"""Columns of text for a table in a file or a pipe, which no window cuts off."""

LINE_EVERY_S = 30.0
"""How often progress is told where there is no terminal to draw bars on."""


@contextmanager
def progress() -> Iterator["Report"]:
    """Show one bar a stage, each made when its stage is first heard of; or lines in a log."""
    if not ERRORS.is_terminal:
        yield Lines(lambda line: ERRORS.print(line, markup=False, highlight=False, soft_wrap=True))
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=ERRORS) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, *, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note=note)
            bars.update(tasks[stage], completed=done, total=total, note=note)

        yield report


@final
@dataclass
class Lines:
    """Progress as lines: the start and the end of each stage, and now and then in between."""

    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    began: dict[str, tuple[float, int]] = field(init=False, default_factory=dict)
    told: float = field(init=False, default=0.0)

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        """Report ``done`` of ``total`` steps of one stage."""
        now = self.clock()
        is_new = stage not in self.began
        started, first = self.began.setdefault(stage, (now, done))
        if not (is_new or done == total or now - self.told >= LINE_EVERY_S):
            return
        self.told = now
        seconds, steps = now - started, done - first
        pace = ""
        if steps and seconds:
            left = timedelta(seconds=round((total - done) * seconds / steps))
            pace = f", {steps / seconds:.1f} a second, {left} left"
        self.say(f"{stage}: {done} of {total}{pace}{f', {note}' if note else ''}")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows; columns whose cells are all numbers are aligned right."""
    _title(title)
    printed = Table()
    for number, column in enumerate(columns):
        is_numeric = bool(rows) and all(_is_number(row[number]) for row in rows)
        printed.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        printed.add_row(*map(Text, row))
    _print(printed)


def facts(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    _title(title)
    printed = Table(show_header=False)
    printed.add_column(style="dim")
    printed.add_column(overflow="fold")
    for pair in pairs:
        printed.add_row(*map(Text, pair))
    _print(printed)


def say(sentence: str) -> None:
    """Print one line of results."""
    OUT.print(sentence, markup=False, highlight=False, soft_wrap=True)


def complain(sentence: str) -> None:
    """Print one red sentence on the error stream."""
    ERRORS.print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)


def _print(table: Table) -> None:
    # A width asked of ``print`` is cut to the console's own, 80 where there is no window.
    where = OUT if OUT.is_terminal else Console(file=OUT.file, width=WIDEST)
    where.print(table)


def _title(text: str) -> None:
    OUT.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)


def _is_number(cell: str) -> bool:
    try:
        float(cell.rstrip("%"))
    except ValueError:
        return not cell
    return True
