"""Results in, rows of a table and JSON files out."""

import json
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from mad.bench.detection import Estimate
from mad.bench.figures import Figures
from mad.bench.run import Result
from mad.errors import ConfigError

COLUMNS = (
    "method",
    "AUROC",
    "against shift",
    "recall at 1 %",
    "95 % interval",
    "false alarms",
    "99 % interval",
    "shift flagged",
    "fit s",
    "ms per 1,000",
)

BRIEF = ("method", "AUROC", "against shift", "recall at 1 %", "false alarms", "ms per 1,000")


def rows(result: Result) -> Iterator[tuple[str, ...]]:
    """Return one row a method, in the order of ``COLUMNS``; empty where there is no figure."""
    offline = ((f"offline: {method}", figures) for method, figures in result.offline.items())
    for method, figures in chain(result.figures.items(), offline):
        found = figures.estimates
        recall, realised = found["recall_at_fpr_01"], figures.realised_interval
        yield (
            method,
            shown(found["auroc"], "{:.4f}"),
            shown(found["auroc_vs_shift"], "{:.4f}"),
            shown(recall, "{:.3f}"),
            "" if recall is None else f"{recall.low:.3f} - {recall.high:.3f}",
            shown(found["realised_fpr_alpha_01"], "{:.2%}"),
            f"{realised.low:.2%} - {realised.high:.2%}",
            shown(found["shift_flag_rate_alpha_01"], "{:.2%}"),
            f"{figures.fit_seconds:.1f}",
            f"{figures.ms_per_1000:.0f}",
        )


def brief(result: Result) -> Iterator[tuple[str, ...]]:
    """Return what fits a terminal of each row: the columns of ``BRIEF``."""
    places = [COLUMNS.index(column) for column in BRIEF]
    for row in rows(result):
        yield tuple(row[place] for place in places)


def shown(found: Estimate | None, form: str) -> str:
    """Return a figure as text; empty where there is none."""
    return "" if found is None else form.format(found.value)


def as_json(result: Result) -> dict[str, object]:
    """Return the object of one task, ready for ``json.dumps``."""
    return {
        "task": result.task,
        "configuration": dict(result.settings),
        "scores": {method: _scores(figures) for method, figures in result.figures.items()},
        "offline": {method: _scores(figures) for method, figures in result.offline.items()},
    }


def write(results: Sequence[Result], out: str) -> None:
    """Write one list to a file, or one file a task when ``out`` is a directory or ends in a slash.

    Each file is replaced as a whole, so that a kill leaves the one before.

    Raises:
        ConfigError: a file cannot be written.
    """
    path = Path(out)
    try:
        if out.endswith("/") or path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            for result in results:
                _replace(path / f"{Path(result.task).name}.json", _json(as_json(result)))
        else:
            _replace(path, _json([as_json(result) for result in results]))
    except OSError as cause:
        raise ConfigError(f"cannot write results to {out}: {cause.strerror}") from cause


def write_text(text: str, path: Path) -> None:
    """Replace a file as a whole; ConfigError if it cannot be written."""
    try:
        _replace(path, text)
    except OSError as cause:
        raise ConfigError(f"cannot write results to {path}: {cause.strerror}") from cause


def _scores(figures: Figures) -> dict[str, object]:
    estimates = figures.estimates.items()
    return {
        **{name: None if one is None else round(one.value, 6) for name, one in estimates},
        "n_calibration": figures.n_calibration,
        "fit_seconds": round(figures.fit_seconds, 3),
        "ms_per_1000": round(figures.ms_per_1000, 3),
        "realised_fpr_ci99": [round(end, 6) for end in figures.realised_interval],
        "ci95": {
            name: None if one is None else [round(one.low, 6), round(one.high, 6)]
            for name, one in estimates
        },
    }


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
