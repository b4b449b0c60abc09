"""``mad bench``: how well anomalies are told from ordinary inputs, on labelled tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.errors import ConfigError, MadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mad.bench.run import Asked, Result


def bench(  # noqa: PLR0913  # one argument an option
    tasks: Annotated[
        list[Path],
        typer.Argument(help="Task folders; the model.py in each is run.", show_default=False),
    ],
    out: Annotated[
        str, typer.Option(help="JSON file for all tasks, or a directory/ for one file a task.")
    ] = "",
    table: Annotated[
        Path | None, typer.Option(help="Markdown file: means, the best peer, every figure.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Directory for a picture of each task; needs matplotlib.")
    ] = None,
    configuration: Annotated[
        list[str] | None,
        typer.Option(help="Also score this way: independent, set, output, residual or neighbours."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Also measure with dictionaries of this kind alone, or 'all' kinds."),
    ] = None,
    *,
    decomposition: Annotated[
        list[str] | None,
        typer.Option(help="Also measure with 'parameters': pieces of the model's own weights."),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Measure other detectors on the same split as well.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="Fits to take means over.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of the first split, training and intervals.")] = 0,
) -> None:
    """Fit and measure the default configuration on every task; the same settings for all.

    A task that cannot be used gets one line, and the others still run.
    """
    from mad.bench.kinds import parse_kinds
    from mad.bench.own import check_names
    from mad.bench.run import Asked

    check_names(configuration or [])
    _check(peers=peers, plot=plot, decomposition=decomposition or [])
    asked = Asked(
        tuple(configuration or ()),
        parse_kinds(kind or ()),
        parameters=bool(decomposition),
        peers=peers,
        seeds=seeds,
    )
    results: list[Result] = []
    broken = 0
    for number, folder in enumerate(tasks, start=1):
        heading = f"task {number} of {len(tasks)}: {folder}"
        screen.ERRORS.print(heading, markup=False, highlight=False)
        try:
            results.append(_measure(folder, asked, seed=seed))
        except MadError as error:
            screen.complain(f"{folder}: {error}")
            broken += 1
            continue
        _show(results, out=out, table=table, plot=plot)
    if broken:
        raise ConfigError(f"{broken} of {len(tasks)} tasks could not be measured; see above")


def _check(*, peers: bool, plot: Path | None, decomposition: "Sequence[str]") -> None:
    """Say before any work what is not known, and what an extra that is not installed leaves out."""
    for name in decomposition:
        if name != "parameters":
            raise ConfigError(f"decomposition {name!r} is not known; there is: parameters")
    if plot is not None:
        from mad.bench.plot import check_installed

        check_installed()
    if peers:
        from mad.bench.peers.measure import absent_peers

        if absent := absent_peers():
            names = ", ".join(sorted(absent))
            screen.complain(f"left out, as they need pip install 'mad[bench]': {names}")


def _measure(folder: Path, asked: "Asked", *, seed: int) -> "Result":
    from mad.bench.own import Plans
    from mad.bench.run import run
    from mad.bench.tasks import load_task

    task = load_task(folder)
    with screen.progress() as progress:
        return run(task, Plans.usual(seed=seed), asked, progress=progress)


def _show(results: "Sequence[Result]", *, out: str, table: Path | None, plot: Path | None) -> None:
    """Print the newest result, and write all so far."""
    from mad.bench import markdown, report

    newest = results[-1]
    screen.table(newest.task, report.BRIEF, list(report.brief(newest)))
    if out:
        report.write(results, out)
    if table is not None:
        report.write_text(markdown.page(results), table)
    if plot is not None:
        from mad.bench.plot import draw

        draw(newest, plot)
