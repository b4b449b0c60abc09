"""``mad report diff``: what has moved between two baselines, or two checkpoints of one model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.cli.written import check
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.deployment import Deployment
    from mad.report.diff import Diff, Rows
    from mad.report.sheet import Sheet


def diff(  # noqa: PLR0913  # one argument an option
    first: Annotated[
        str, typer.Argument(help="Baseline as name or name@version; default: the active.")
    ] = "",
    second: Annotated[
        str, typer.Argument(help="Baseline to hold against it; or give --weights.")
    ] = "",
    *,
    config: Annotated[Path, typer.Option(help="Settings file, such as mad.toml.")],
    weights: Annotated[
        Path | None,
        typer.Option(help="Another checkpoint of the model, to hold against the settings' own."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file of every figure.")] = None,
    top: Annotated[int, typer.Option(help="Components to name, at most.", min=1)] = 20,
    inputs: Annotated[
        int, typer.Option(help="Trusted inputs to measure on, at most.", min=1)
    ] = 4_096,
) -> None:
    """Say in bits an input which components' rates, magnitudes and codes moved, and which weights.

    Two baselines of one decomposition, or one model before and after more training. It measures on
    the inputs held out to weigh parts; the reference stays unlooked at.
    """
    from mad.deployment import Deployment
    from mad.report.diff import as_json, diff_sheet
    from mad.report.sheet import as_page

    check([path for path in (html, out) if path], with_plot=False)
    if bool(second) == (weights is not None):
        raise ConfigError(
            "name two baselines, such as default@3 default@4, or --weights with another checkpoint "
            "of the model"
        )
    deployment = Deployment.load(config)
    rows = _rows(deployment, inputs)
    found = (
        _models(deployment, first, weights, rows)
        if weights
        else _baselines(deployment, first, second, rows)
    )
    sheet = diff_sheet(found, top=top)
    _show(sheet)
    texts = [(html, as_page(sheet)), (out, json.dumps(as_json(found), indent=2) + "\n")]
    for path, text in texts:
        if path:
            _write(path, text)


def _show(sheet: "Sheet") -> None:
    screen.say(sheet.prose)
    for section in sheet.sections:
        for sentence in filter(None, (section.title, section.prose)):
            screen.say(sentence)
        for table in section.tables:
            screen.table(table.title, table.columns, list(table.rows))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as cause:
        raise ConfigError(f"cannot write {cause.filename}: {cause.strerror}") from cause
    screen.say(f"written to {path}")


def _rows(deployment: "Deployment", most: int) -> "Rows":
    from mad.report.diff import Rows

    data = deployment.trusted()
    return Rows(data, deployment.rows(data).weighing[:most])


def _baselines(deployment: "Deployment", first: str, second: str, rows: "Rows") -> "Diff":
    from mad.baseline.store import parse_revision
    from mad.report.diff import diff_baselines

    scorer = deployment.monitor(first).scorer
    names = (first or deployment.settings.baseline.name, second)
    ours, theirs = (deployment.store.load(*parse_revision(name)) for name in names)
    with screen.progress() as progress:
        return diff_baselines(scorer, ours, theirs, rows, progress=progress)


def _models(deployment: "Deployment", revision: str, weights: Path, rows: "Rows") -> "Diff":
    from mad.components.parameters.masked import on_model
    from mad.deployment import Deployment
    from mad.report.diff import diff_models, weights_of

    settings = deployment.settings
    model = settings.model.model_copy(update={"weights": weights.absolute()})
    other = Deployment.of(settings.model_copy(update={"model": model}))
    scorer = deployment.monitor(revision).scorer
    names = (settings.model.weights.name, weights.name)
    theirs = on_model(scorer.decomposition, other.model.module)
    with screen.progress() as progress:
        found = diff_models(
            scorer,
            replace(scorer, model=other.model, decomposition=theirs),
            rows,
            names=names,
            progress=progress,
        )
    modules = (scorer.model.module, other.model.module)
    return replace(found, weights=weights_of(scorer.decomposition, *modules))
