"""Results in, rows of a table and JSON files out."""

import json
import os
from collections.abc import Iterator, Sequence
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
    "fit s",
    "ms per 1,000",
)


def rows(result: Result) -> Iterator[tuple[str, ...]]:
    """Return one row a method, in the order of ``COLUMNS``; empty where there is no figure."""
    for method, figures in result.figures.items():
        found = figures.estimates
        recall = found["recall_at_fpr_01"]
        yield (
            method,
            _shown(found["auroc"], "{:.4f}"),
            _shown(found["auroc_vs_shift"], "{:.4f}"),
            _shown(recall, "{:.3f}"),
            "" if recall is None else f"{recall.low:.3f} - {recall.high:.3f}",
            _shown(found["realised_fpr_alpha_01"], "{:.2%}"),
            f"{figures.fit_seconds:.1f}",
            f"{figures.ms_per_1000:.0f}",
        )


def as_json(result: Result) -> dict[str, object]:
    """Return the object of one task, ready for ``json.dumps``."""
    return {
        "task": result.task,
        "configuration": dict(result.settings),
        "scores": {method: _scores(figures) for method, figures in result.figures.items()},
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
                _replace(path / f"{Path(result.task).name}.json", as_json(result))
        else:
            _replace(path, [as_json(result) for result in results])
    except OSError as cause:
        raise ConfigError(f"cannot write results to {out}: {cause.strerror}") from cause


def _scores(figures: Figures) -> dict[str, object]:
    estimates = figures.estimates.items()
    return {
        **{name: None if one is None else round(one.value, 6) for name, one in estimates},
        "n_calibration": figures.n_calibration,
        "fit_seconds": round(figures.fit_seconds, 3),
        "ms_per_1000": round(figures.ms_per_1000, 3),
        "ci95": {
            name: None if one is None else [round(one.low, 6), round(one.high, 6)]
            for name, one in estimates
        },
    }


def _shown(found: Estimate | None, form: str) -> str:
    return "" if found is None else form.format(found.value)


def _replace(path: Path, content: object) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(path)
