"""Results of several tasks in, one Markdown page out: the summary first, then every figure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from mad.bench.figures import Figures
from mad.bench.report import COLUMNS, rows
from mad.bench.run import Result, is_own

RECALL = "recall_at_fpr_01"


def page(results: Sequence[Result]) -> str:
    """Return the summary, mad beside the peer that hindsight would choose, and every figure."""
    parts = [
        "# Detection",
        _tasks(results),
        "## Means over tasks",
        "A mean is over the tasks that have the figure; `tasks` says on how many the method ran, "
        "and `kept` on how many the 99 % interval of its false-alarm rate holds 1 %.",
        _table(_MEANS, _means(results, lambda result: result.figures)),
    ]
    if any(result.offline for result in results):
        parts += [
            "## Offline",
            "These read a batch of the test inputs, one in ten anomalous, before they score them.",
            _table(_MEANS, _means(results, lambda result: result.offline)),
        ]
    if any(_peers(result) for result in results):
        parts += [
            "## Beside the best peer",
            "The best online peer of each task, chosen with hindsight for each figure apart.",
            _table(_BESIDE, _beside(results)),
        ]
    parts += ["## Every figure", _table(("task", *COLUMNS), _all(results))]
    return "\n\n".join(parts) + "\n"


_MEANS = (
    "method",
    "tasks",
    "AUROC",
    "least AUROC",
    "recall at 1 %",
    "AUROC against shift",
    "shift flagged at 1 %",
    "false alarms at 1 %",
    "kept",
)

_BESIDE = (
    "task",
    "mad AUROC",
    "best peer",
    "AUROC",
    "mad minus it",
    "mad recall at 1 %",
    "best peer",
    "recall",
    "mad minus it",
)


def _tasks(results: Sequence[Result]) -> str:
    fits = {len(_seeds(result)) for result in results}
    seeds = " or ".join(str(count) for count in sorted(fits))
    return (
        f"{len(results)} tasks, {seeds} seed(s) of fit each, default configuration, the same for "
        "every task. Thresholds of recall come from ordinary test inputs; intervals are 95 % "
        "bootstraps over inputs and fits."
    )


def _seeds(result: Result) -> Sequence[object]:
    seeds = result.settings["seeds"]
    assert isinstance(seeds, list)
    return seeds


def _means(
    results: Sequence[Result], figures_of: Callable[[Result], Mapping[str, Figures]]
) -> Iterator[tuple[str, ...]]:
    """Return a row a method, the highest mean recall first."""
    methods = dict.fromkeys(chain.from_iterable(figures_of(result) for result in results))
    found = {
        method: [figures_of(result)[method] for result in results if method in figures_of(result)]
        for method in methods
    }
    for method in sorted(methods, key=lambda one: -(_mean(found[one], RECALL) or 0.0)):
        of_tasks = found[method]
        yield (
            f"`{method}`",
            str(len(of_tasks)),
            _cell(_mean(of_tasks, "auroc")),
            _cell(min(_values(of_tasks, "auroc"))),
            _cell(_mean(of_tasks, RECALL)),
            _cell(_mean(of_tasks, "auroc_vs_shift")),
            _cell(_mean(of_tasks, "shift_flag_rate_alpha_01"), "{:.1%}"),
            _cell(_mean(of_tasks, "realised_fpr_alpha_01"), "{:.2%}"),
            f"{sum(one.keeps_its_promise for one in of_tasks)} of {len(of_tasks)}",
        )


def _beside(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    """Return a row a task, and one of their means."""
    columns: list[list[float]] = []
    for result in results:
        compared = [_compared(result, "auroc"), _compared(result, RECALL)]
        if not all(compared):
            continue
        cells = [result.task]
        for mad, name, best in filter(None, compared):
            cells += [_cell(mad), f"`{name}`", _cell(best), _cell(mad - best, "{:+.3f}")]
        columns.append([number for one in filter(None, compared) for number in (one[0], one[2])])
        yield tuple(cells)
    if columns:
        mad, best, mad_recall, best_recall = (
            sum(column) / len(columns) for column in zip(*columns, strict=True)
        )
        yield (
            "**mean**",
            *(_cell(mad), "", _cell(best), _cell(mad - best, "{:+.3f}")),
            *(_cell(mad_recall), "", _cell(best_recall)),
            _cell(mad_recall - best_recall, "{:+.3f}"),
        )


def _compared(result: Result, figure: str) -> tuple[float, str, float] | None:
    """Return mad's figure, the name of the peer with the best, and that peer's."""
    own = result.figures["mad"].estimates[figure]
    peers = {
        name: estimate.value
        for name, figures in _peers(result).items()
        if (estimate := figures.estimates[figure]) is not None
    }
    if own is None or not peers:
        return None
    best = max(peers, key=lambda name: peers[name])
    return own.value, best, peers[best]


def _peers(result: Result) -> dict[str, Figures]:
    return {name: figures for name, figures in result.figures.items() if not is_own(name)}


def _all(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    for result in results:
        for row in rows(result):
            yield (result.task, f"`{row[0]}`", *row[1:])


def _values(of_tasks: Sequence[Figures], figure: str) -> list[float]:
    found = (one.estimates[figure] for one in of_tasks)
    return [estimate.value for estimate in found if estimate is not None]


def _mean(of_tasks: Sequence[Figures], figure: str) -> float | None:
    values = _values(of_tasks, figure)
    return sum(values) / len(values) if values else None


def _cell(value: float | None, form: str = "{:.3f}") -> str:
    return "" if value is None else form.format(value)


def _table(columns: Sequence[str], body: Iterator[tuple[str, ...]]) -> str:
    lines = (columns, tuple("---" for _ in columns), *body)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
