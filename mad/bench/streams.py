"""How soon stream alarms find anomalies, and how often they are wrong: simulated streams.

Run as ``python -m mad.bench.streams``; ``--task FOLDER`` draws from a task's own surprises, after
fitting the default baseline, in place of drawing from laws. Alarms are those of the service.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.table import Table as Printed

from mad.bench.stream_scores import LAWS, Scores, of_task
from mad.bench.tasks import load_task
from mad.streams.martingale import MixtureMartingale
from mad.streams.monitor import StreamMonitor
from mad.streams.ranks import Places, fixed

Surprises: TypeAlias = Float64[np.ndarray, " input"]
FirstAlarms: TypeAlias = Mapping[str, float]
"""The input at which each method alarms first; infinity stands for never."""
Method: TypeAlias = Callable[[Surprises, Surprises], FirstAlarms]
"""An ascending reference and a stream in, first alarms out."""

FALSE_ALARM_RATE: Final = 0.01
RUN_LENGTHS: Final = (100_000, 10_000)
RATES: Final = (0.01, 0.05, 0.2)
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PASS: Final = 1000


@final
@dataclass(frozen=True)
class FalseAlarms:
    """The share of ordinary streams in which a method had alarmed by each length."""

    method: str
    reference: int
    streams: int
    shares: Mapping[int, float]


@final
@dataclass(frozen=True)
class Delay:
    """How many streams a method found at one rate of anomalies, and the median first alarm."""

    scores: str
    auroc: float
    method: str
    rate: float
    found: float
    median: float


def both_channels(reference: Surprises, stream: Surprises) -> FirstAlarms:
    """Watch a stream as the service does; and once more at the shorter run length."""
    first = {}
    for run_length in RUN_LENGTHS:
        monitor = StreamMonitor.of(
            reference, false_alarm_rate=FALSE_ALARM_RATE, inputs_per_false_alarm=run_length
        )
        alarms = _watch(monitor, stream)
        first[f"fast, once in {run_length:,}"] = alarms["fast"]
        first["never false"] = alarms["never_false"]
    return first


def one_monitor(reference: Surprises, stream: Surprises) -> FirstAlarms:
    """Watch as the service does; and bet on ranks among the reference alone, to show why not."""
    monitor = StreamMonitor.of(
        reference, false_alarm_rate=FALSE_ALARM_RATE, inputs_per_false_alarm=RUN_LENGTHS[0]
    )
    alarms = _watch(monitor, stream)
    return {"never false": alarms["never_false"], "fixed p-values": _fixed(reference, stream)}


def false_alarms(
    method: Method,
    scores: Scores,
    *,
    references: Sequence[int],
    streams: int,
    lengths: Sequence[int],
    seed: int = 0,
) -> Iterator[FalseAlarms]:
    """Watch ordinary streams, each with a reference of its own."""
    for size in references:
        chance = np.random.default_rng([seed, size])
        first = [
            method(np.sort(scores.reference(chance, size)), scores.ordinary(chance, max(lengths)))
            for _ in range(streams)
        ]
        for name in first[0]:
            shares = {
                length: float(np.mean([one[name] <= length for one in first])) for length in lengths
            }
            yield FalseAlarms(name, size, streams, shares)


def delays(
    method: Method,
    scores: Scores,
    *,
    reference: int,
    streams: int,
    length: int,
    seed: int = 0,
) -> Iterator[Delay]:
    """Watch streams that hold anomalies from their first input on."""
    for rate in RATES:
        chance = np.random.default_rng([seed, round(rate * 1000)])
        first = [
            method(
                np.sort(scores.reference(chance, reference)),
                scores.stream(chance, length, rate=rate),
            )
            for _ in range(streams)
        ]
        for name in first[0]:
            when = np.array([one[name] for one in first])
            found = float(np.isfinite(when).mean())
            yield Delay(scores.name, scores.auroc, name, rate, found, float(np.median(when)))


def _watch(monitor: StreamMonitor, surprise: Surprises) -> FirstAlarms:
    stream = monitor.start(seed=0, now=_NOW)
    for start in range(0, surprise.size, _PASS):
        stream = monitor.advance(stream, surprise[start : start + _PASS], now=_NOW)
        if len(stream.alarms) == len(monitor.thresholds):
            break
    return {
        channel: stream.alarms[channel].at_input if channel in stream.alarms else math.inf
        for channel in monitor.thresholds
    }


def _fixed(reference: Surprises, surprise: Surprises) -> float:
    places = Places.of(reference)
    ties = 1 - np.random.default_rng(0).random(surprise.size)
    p = fixed(places.find(surprise), places.reference, ties)
    _, wealth = MixtureMartingale.start().advance(p)
    reached = np.flatnonzero(wealth >= MixtureMartingale.threshold_bits(FALSE_ALARM_RATE))
    return float(reached[0]) + 1 if reached.size else math.inf


def _show_false_alarms(rows: Sequence[FalseAlarms], console: Console) -> None:
    lengths = list(rows[0].shares)
    printed = Printed(
        "p-values",
        "reference",
        *(f"by {length:,} inputs" for length in lengths),
        title=f"Ordinary streams with an alarm, nominal {FALSE_ALARM_RATE:.0%}, "
        f"{rows[0].streams} streams",
    )
    for row in rows:
        shares = (f"{row.shares[length]:.1%}" for length in lengths)
        printed.add_row(row.method, f"{row.reference:,}", *shares)
    console.print(printed)


def _show_delays(rows: Sequence[Delay], console: Console) -> None:
    printed = Printed(
        "surprises",
        "AUROC",
        "channel",
        *(f"{rate:.0%} anomalies" for rate in RATES),
        title="Streams found, and the median input of the alarm",
    )
    cells: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        median = f"{row.median:,.0f}" if math.isfinite(row.median) else "-"
        key = (row.scores, f"{row.auroc:.3f}", row.method)
        cells.setdefault(key, []).append(f"{row.found:.2f}, {median}")
    for key, shown in cells.items():
        printed.add_row(*key, *shown)
    console.print(printed)


def _no_progress(stage: str, *, done: int, total: int, note: str = "") -> None:
    """Say nothing."""


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mad.bench.streams", description=__doc__)
    parser.add_argument("--task", type=Path, action="append", default=[], help="task folder")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--streams", type=int, default=60, help="streams with anomalies, a rate")
    parser.add_argument("--reference", type=int, default=3000, help="reference of these streams")
    wanted = parser.parse_args()
    console = Console()
    found: list[FalseAlarms] = []
    scores = [of_task(load_task(task), seed=0, progress=_no_progress) for task in wanted.task]
    if not scores:
        found.extend(
            false_alarms(
                one_monitor,
                LAWS[0],
                references=(500, 5_000, 50_000),
                streams=40,
                lengths=(1_000, 10_000, 100_000),
            )
        )
        _show_false_alarms(found, console)
    rows = [
        row
        for each in scores or LAWS
        for row in delays(
            both_channels, each, reference=wanted.reference, streams=wanted.streams, length=3000
        )
    ]
    _show_delays(rows, console)
    if wanted.out:
        lists = {"false_alarms": map(asdict, found), "delays": map(asdict, rows)}
        text = json.dumps({name: list(one) for name, one in lists.items()}, indent=1)
        wanted.out.write_text(text + "\n")


if __name__ == "__main__":
    _main()
