"""``mad report baseline``, ``alerts`` and ``calibration``: a page for a ticket or a review."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from mad.cli import screen
from mad.cli.alert_rows import FOUND, Question, moment
from mad.cli.alerts import asked
from mad.cli.options import Config, Revision
from mad.cli.remote import At
from mad.cli.report_told import calibrated, of_log, of_server
from mad.cli.written import check
from mad.config import Settings
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.baseline.bundle import Baseline
    from mad.deployment import Deployment
    from mad.report.of_alerts import ToldAlert
    from mad.report.of_baseline import Lengths
    from mad.report.sheet import Sheet

Html: TypeAlias = Annotated[
    Path, typer.Option("--html", help="HTML page to write.", show_default=False)
]
SAMPLE = 256
"""Reference inputs that are scored for their mean lengths."""
TRAFFIC = ("live", "trusted", "canary")


def baseline(config: Config, html: Html, revision: Revision = "") -> None:
    """Tell what a version promises, where its bits lie and where it comes from."""
    from mad.deployment import Deployment
    from mad.report.of_baseline import baseline_sheet

    check([html], with_plot=False)
    deployment = Deployment.load(config)
    found = deployment.monitor(revision).baseline
    entry = deployment.store.entry(found.manifest.name, found.manifest.version)
    lengths, inputs = _lengths(deployment, found)
    _write(html, baseline_sheet(found, entry.provenance, entry.aliases, lengths, inputs))


def alerts(  # noqa: PLR0913  # one option each
    *,
    html: Html,
    address: At = "127.0.0.1:8001",
    config: Annotated[
        Path | None, typer.Option(help="Read the log this settings file names, without a server.")
    ] = None,
    name: Annotated[
        str, typer.Option("--baseline", help="Only alerts of this baseline name.")
    ] = "",
    since: Annotated[str, typer.Option(help="Only later ones: 90m, 2h, 3d or a time.")] = "",
    incident: Annotated[str, typer.Option(help="Only those of this incident.")] = "",
    found: Annotated[str, typer.Option(help=f"Only those found to be: {', '.join(FOUND)}.")] = "",
    most: Annotated[int, typer.Option(help="Newest alerts to count.", min=1)] = 10_000,
    latest: Annotated[int, typer.Option(help="Newest alerts to show whole.", min=0)] = 5,
) -> None:
    """Count alerts by day, incident and component, and show the latest with their ledgers."""
    from mad.report.of_alerts import alerts_sheet

    check([html], with_plot=False)
    question = Question(
        baseline=name,
        since=moment(since, now=datetime.now(UTC)),
        incident=incident,
        request="",
        least_bits=0.0,
        found=found,
    )
    if config is not None:
        told = _some(of_log(Settings.load(config).server.alert_log, question), most)
    else:
        with asked(address) as client:
            told = _some(of_server(client, question), most)
    origin = str(config or address)
    sheet = alerts_sheet(told[:most], origin=origin, latest=latest, is_all=len(told) <= most)
    _write(html, sheet)


def calibration(
    *,
    html: Html,
    address: At = "127.0.0.1:8001",
    revision: Revision = "",
    top: Annotated[int, typer.Option(help="Components to name.", min=1)] = 10,
) -> None:
    """Show what a running server observed of each kind of traffic beside what was promised."""
    from mad.report.of_calibration import calibration_sheet

    check([html], with_plot=False)
    with asked(address) as client:
        kinds = [
            calibrated(client.calibration(revision, traffic=one, max_components=top), one)
            for one in TRAFFIC
        ]
    _write(html, calibration_sheet(kinds, origin=address, time=datetime.now(UTC)))


def _lengths(deployment: "Deployment", found: "Baseline") -> tuple["Lengths", int]:
    data = deployment.trusted()
    rows = deployment.rows(data).reference[:SAMPLE]
    scorer = deployment.monitor(found.revision).scorer
    ledger = scorer.score(data.take(rows)).ledger
    means = ledger.bits.mean(dim=0).tolist()
    lengths = [(site, term, bits) for (site, term), bits in zip(ledger.keys, means, strict=True)]
    return lengths, len(rows)


def _some(told: Iterator["ToldAlert"], most: int) -> list["ToldAlert"]:
    """Take one more than are asked for, which says whether there are more."""
    return list(islice(told, most + 1))


def _write(html: Path, sheet: "Sheet") -> None:
    from mad.report.sheet import as_page

    try:
        html.write_text(as_page(sheet), encoding="utf-8")
    except OSError as cause:
        raise ConfigError(f"cannot write {cause.filename}: {cause.strerror}") from cause
    screen.say(f"written to {html}")
