"""``mad bench``: how well anomalies are told from ordinary inputs, on labelled tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.errors import ConfigError, MadError

if TYPE_CHECKING:
    from mad.bench.run import Result


def bench(
    tasks: Annotated[
        list[Path],
        typer.Argument(help="Task folders; the model.py in each is run.", show_default=False),
    ],
    out: Annotated[
        str, typer.Option(help="JSON file for all tasks, or a directory/ for one file a task.")
    ] = "",
    configuration: Annotated[
        list[str] | None,
        typer.Option(help="Also score this way: independent, set or residual; may be repeated."),
    ] = None,
    *,
    peers: Annotated[
        bool, typer.Option("--peers", help="Measure other detectors on the same split as well.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the split, the training and the intervals.")] = 0,
) -> None:
    """Fit and measure the default configuration on every task; the same settings for all.

    A task that cannot be used gets one line, and the others still run.
    """
    from mad.bench import report
    from mad.bench.run import check_names

    check_names(configuration or [])
    results: list[Result] = []
    broken = 0
    for number, folder in enumerate(tasks, start=1):
        heading = f"task {number} of {len(tasks)}: {folder}"
        screen.ERRORS.print(heading, markup=False, highlight=False)
        try:
            result = _measure(folder, configuration or [], peers=peers, seed=seed)
        except MadError as error:
            screen.complain(f"{folder}: {error}")
            broken += 1
            continue
        results.append(result)
        screen.table(result.task, report.COLUMNS, list(report.rows(result)))
        if out:
            report.write(results, out)
    if broken:
        raise ConfigError(f"{broken} of {len(tasks)} tasks could not be measured; see above")


def _measure(folder: Path, configurations: list[str], *, peers: bool, seed: int) -> "Result":
    from mad.bench.run import Plans, run
    from mad.bench.tasks import load_task

    task = load_task(folder)
    with screen.progress() as progress:
        return run(
            task,
            Plans.usual(seed=seed),
            configurations=configurations,
            with_peers=peers,
            progress=progress,
        )
