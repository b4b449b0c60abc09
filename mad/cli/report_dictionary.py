"""``mad report dictionary``: what the trained dictionaries are like."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.cli.written import check
from mad.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mad.components.base import Decomposition
    from mad.deployment import Deployment
    from mad.report.dictionary import Asked, DictionaryReport, Source


def dictionary(  # noqa: PLR0913  # one argument an option
    *,
    config: Annotated[Path, typer.Option(help="Settings file, such as mad.toml.")],
    other: Annotated[
        Path | None,
        typer.Option(help="Dictionaries to compare with: their directory, or a settings file."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help=".safetensors of known directions: one array by view, or one for all."),
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Array of true labels in the trusted data; without, the model's.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="JSON file of every figure.")] = None,
    table: Annotated[Path | None, typer.Option(help="Markdown file of the tables.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="PNG file, or a directory for several pictures.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page of tables and drawings.")] = None,
    step: Annotated[
        float,
        typer.Option(help="Precision of descriptions, as a share of deviation.", min=1e-6, max=0.5),
    ] = 0.01,
) -> None:
    """Measure each dictionary on trusted inputs that it has not seen, and compare them.

    These are the inputs held out to weigh parts: the reference stays unlooked at, so that choosing
    a dictionary by this report breaks no promise.
    """
    from mad.deployment import Deployment
    from mad.report.dictionary import examine
    from mad.report.dictionary.page import as_page
    from mad.report.dictionary.table import as_json, as_markdown

    wanted = [path for path in (out, table, plot, page) if path]
    check(wanted, with_plot=plot is not None, folder=plot)
    deployment = Deployment.load(config)
    asked = _asked(deployment, other=other, truth=truth, labels=labels, step=step)
    with screen.progress() as progress:
        found = examine(source_of(deployment), asked, progress=progress)
    _show(found)
    texts = [
        (out, json.dumps(as_json(found), indent=2) + "\n"),
        (table, as_markdown(found)),
        (page, as_page(found)),
    ]
    try:
        written = [_write(path, text) for path, text in texts if path]
        if plot:
            from mad.report.dictionary.plot import draw

            written += draw(found, plot)
    except OSError as cause:
        raise ConfigError(f"cannot write {cause.filename}: {cause.strerror}") from cause
    for path in written:
        screen.say(f"written to {path}")


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def source_of(deployment: "Deployment") -> "Source":
    """Return model, decomposition and trusted data that it has not seen; ConfigError if it has."""
    from mad.fit import check_unseen
    from mad.report.dictionary import Source

    decomposition = deployment.decomposition()
    data = deployment.trusted()
    check_unseen(data, deployment.plan, deployment.seen)
    rows = deployment.rows(data)
    return Source(deployment.model, decomposition, data, rows.fitting, rows.weighing)


def _asked(
    deployment: "Deployment",
    *,
    other: Path | None,
    truth: Path | None,
    labels: str,
    step: float,
) -> "Asked":
    from mad.arrays import open_dataset
    from mad.report.dictionary import Asked

    trusted = deployment.settings.data.trusted
    return Asked(
        other=_other(other, deployment) if other else None,
        truth=_truth(truth, deployment.decomposition()) if truth else {},
        labels=open_dataset(trusted, names=[labels]) if labels else None,
        relative_step=step,
        seed=deployment.plan.seed,
    )


def _other(path: Path, deployment: "Deployment") -> "Decomposition":
    from mad.components.on_disk import load_decomposition
    from mad.config import Settings

    return load_decomposition(
        path if path.is_dir() else Settings.load(path).decomposition.path,
        deployment.model.module,
    )


def _truth(path: Path, decomposition: "Decomposition") -> "Mapping[str, Tensor]":
    """Read known directions by view; a single array of another name is for every view."""
    from mad.report.dictionary import dictionaries
    from mad.tensors import read_tensors

    found = read_tensors(path)
    for name, one in found.items():
        if one.ndim != 2 or not one.is_floating_point() or not len(one):  # noqa: PLR2004  # rows
            raise ConfigError(
                f"{path}: array {name!r} is {one.dtype} of shape {tuple(one.shape)}; give one row "
                "of floats for each direction"
            )
    own, _ = dictionaries(decomposition)
    if len(found) == 1 and not found.keys() & own.keys():
        return dict.fromkeys(own, next(iter(found.values())))
    return found


def _show(found: "DictionaryReport") -> None:
    from mad.report.dictionary.table import skipped, tables, title

    for sentence in filter(None, (title(found), skipped(found))):
        screen.say(sentence)
    for table in tables(found):
        screen.table(table.title, table.columns, table.rows)
