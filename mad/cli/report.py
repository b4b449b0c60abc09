"""``mad report``: what trusted data say, beyond a baseline."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.cli.options import Config
from mad.cli.report_dictionary import dictionary
from mad.cli.report_diff import diff
from mad.cli.report_effects import effects
from mad.cli.report_pages import alerts, baseline, calibration
from mad.cli.written import check
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.components.base import Decomposition
    from mad.deployment import Deployment
    from mad.report import Accounting

report = typer.Typer(
    help="Report on trusted data, baselines, alerts and calibration.", no_args_is_help=True
)


@report.callback()
def _group() -> None:
    """Report on trusted data, baselines, alerts and calibration."""


for page in (dictionary, effects, baseline, alerts, calibration, diff):
    report.command()(page)


@report.command()
def accounting(
    config: Config,
    out: Annotated[Path | None, typer.Option(help="JSON file of every figure.")] = None,
    table: Annotated[Path | None, typer.Option(help="Markdown file of the tables.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file of stacked bars.")] = None,
    step: Annotated[
        float,
        typer.Option(help="Precision: grid as a share of each site's deviation.", min=1e-6, max=1),
    ] = 0.01,
    rank_bits: Annotated[
        float | None,
        typer.Option(
            help="Bits that a rank costs: also tell what active sets cost with their ranks.", min=0
        ),
    ] = None,
) -> None:
    """Count the bits that describe trusted activations in neurons, PCA and the dictionaries."""
    from mad.deployment import Deployment
    from mad.report import table as tables

    written = [path for path in (out, table, plot) if path]
    check(written, with_plot=plot is not None)
    found = _account(Deployment.load(config), step)
    _show(found)
    if rank_bits is not None:
        _show_ranks(found, rank_bits)
    try:
        if out:
            out.write_text(json.dumps(tables.as_json(found), indent=2) + "\n")
        if table:
            table.write_text(tables.as_markdown(found))
        if plot:
            from mad.report.plot import draw

            draw(found, plot)
    except OSError as cause:
        raise ConfigError(f"cannot write {cause.filename}: {cause.strerror}") from cause
    for path in written:
        screen.say(f"written to {path}")


def _account(deployment: "Deployment", step: float) -> "Accounting":
    from mad.fit import check_unseen
    from mad.report import AccountingPlan, Rows, Source, account

    decomposition = deployment.decomposition()
    data = deployment.trusted()
    # Bits of inputs that trained the dictionaries would be no held-out bits.
    check_unseen(data, deployment.plan, deployment.seen)
    source = Source(deployment.model, decomposition, data, deployment.plan.context)
    plan = AccountingPlan(name=_name(decomposition), relative_step=step, seed=deployment.plan.seed)
    rows = Rows.of(deployment.rows(data).fitting, inputs=len(data))
    with screen.progress() as progress:
        return account(source, rows, plan, progress=progress)


def _name(decomposition: "Decomposition") -> str:
    from mad.components.dictionaries.dictionary import Dictionary
    from mad.components.joined import Joined

    parts = decomposition.parts if isinstance(decomposition, Joined) else (decomposition,)
    is_dictionary = all(isinstance(part, Dictionary) for part in parts)
    return "dictionary" if is_dictionary else "decomposition"


def _show_ranks(found: "Accounting", rank_bits: float) -> None:
    from mad.report.ranks import COLUMNS, rows

    # The last of the vocabularies is the deployment's own.
    title = f"Bits of an active set, at {rank_bits:g} bits a rank"
    screen.table(title, COLUMNS, list(rows(found, found.vocabularies[-1], rank_bits=rank_bits)))


def _show(found: "Accounting") -> None:
    from mad.report import table as tables

    where = tables.sites(found)
    screen.say(tables.title(found))
    if len(where) > 1:
        screen.table("All sites", tables.COLUMNS, list(tables.rows(found)))
    for site in where:
        screen.table(f"Site {site}", tables.COLUMNS, list(tables.rows(found, site)))
        screen.table(f"Codes at {site}", tables.CODES, list(tables.codes(found, site)))
