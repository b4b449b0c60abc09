"""``mad report effects``: how far estimates of effects can be trusted on a model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mad.cli import screen
from mad.cli.report_dictionary import source_of
from mad.cli.written import check
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.effects import Answer
    from mad.report.effects import EffectsReport, Reference

REFERENCES: "tuple[Reference, ...]" = ("other", "mean", "zero")
ANSWERS: "tuple[Answer, ...]" = ("score", "loss")

_Choice = TypeVar("_Choice", bound=str)


def effects(  # noqa: PLR0913  # one argument an option
    *,
    config: Annotated[Path, typer.Option(help="Settings file, such as mad.toml.")],
    site: Annotated[
        list[str] | None,
        typer.Option(help="Sites whose outputs are nodes too, whole; * and ? as in globs."),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(help=f"What replaces nodes that are no component: {', '.join(REFERENCES)}."),
    ] = "other",
    by_coordinate: Annotated[
        bool, typer.Option("--by-coordinate", help="Each coordinate of the sites is a node.")
    ] = False,
    by_position: Annotated[
        bool, typer.Option("--by-position", help="Replace one position of a sequence at a time.")
    ] = False,
    answer: Annotated[
        str,
        typer.Option(help="What effects are on: the predicted label's score, or its loss in bits."),
    ] = "score",
    inputs: Annotated[int, typer.Option(help="Held-out trusted inputs to run.", min=1)] = 32,
    most: Annotated[
        int, typer.Option(help="Nodes of one kind to change, an input; drawn at random.", min=1)
    ] = 64,
    top: Annotated[int, typer.Option(help="Most effective nodes that should be found.", min=1)] = 8,
    out: Annotated[Path | None, typer.Option(help="JSON file of every figure.")] = None,
    html: Annotated[Path | None, typer.Option(help="HTML page of tables and curves.")] = None,
) -> None:
    """Compare effects estimated by gradients (AtP, AtP*) with those of running the model again.

    It takes a run for each node of each input, in batches; lower --inputs or --most for a quick
    look. Attention layers and branches for AtP* are settings, in [effects].
    """
    from mad.capture.sites import resolve
    from mad.deployment import Deployment
    from mad.recipes import where
    from mad.report.effects import EffectsPlan, compare

    check([path for path in (out, html) if path], with_plot=False)
    replaced = _one_of(REFERENCES, reference, "--reference")
    asked = _one_of(ANSWERS, answer, "--answer")
    deployment = Deployment.load(config)
    plan = EffectsPlan(
        where=replace(where(deployment.model, deployment.settings.effects), answer=asked),
        sites=resolve(deployment.model.module, site or ()),
        by_coordinate=by_coordinate,
        by_position=by_position,
        reference=replaced,
        inputs=inputs,
        most=most,
        top=top,
        seed=deployment.plan.seed,
    )
    with screen.progress() as progress:
        found = compare(source_of(deployment), plan, progress=progress)
    _show(found)
    _write(found, out, html)


def _one_of(known: tuple[_Choice, ...], name: str, option: str) -> _Choice:
    for one in known:
        if name == one:
            return one
    raise ConfigError(f"{option} {name!r} is none of {', '.join(known)}")


def _show(found: "EffectsReport") -> None:
    from mad.report.effects.told import tables, title, verdict

    screen.say(title(found))
    for table in tables(found):
        screen.table(table.title, table.columns, table.rows)
    screen.say(verdict(found)[0])


def _write(found: "EffectsReport", out: Path | None, html: Path | None) -> None:
    from mad.report.effects.told import as_json, effects_sheet
    from mad.report.sheet import as_page

    try:
        if out:
            out.write_text(json.dumps(as_json(found), indent=2) + "\n", encoding="utf-8")
        if html:
            html.write_text(as_page(effects_sheet(found)), encoding="utf-8")
    except OSError as cause:
        raise ConfigError(f"cannot write {cause.filename}: {cause.strerror}") from cause
    for path in filter(None, (out, html)):
        screen.say(f"written to {path}")
