"""The ``mad`` command: verbs by name; an error of ours becomes one sentence, never a traceback."""

import sys
from collections.abc import Sequence

import typer

from mad.cli import screen
from mad.cli.alerts import alerts
from mad.cli.audit import audit
from mad.cli.baselines import baselines
from mad.cli.bench import bench
from mad.cli.calibration import calibration
from mad.cli.canary import canary
from mad.cli.convert import convert
from mad.cli.demo import demo
from mad.cli.explain import explain
from mad.cli.fit import fit
from mad.cli.incidents import incidents
from mad.cli.jobs import jobs
from mad.cli.promote import promote, rollback
from mad.cli.report import report
from mad.cli.score import score
from mad.cli.serve import serve
from mad.cli.stream import stream
from mad.cli.token import token
from mad.cli.train import train
from mad.errors import ConfigError, MadError

app = typer.Typer(
    help="Mechanistic anomaly detection: how surprising are the mechanisms an input uses?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (
    demo,
    fit,
    serve,
    score,
    explain,
    alerts,
    incidents,
    stream,
    calibration,
    canary,
    jobs,
    baselines,
    promote,
    rollback,
    audit,
    token,
    bench,
    convert,
):
    app.command()(verb)
app.add_typer(train, name="train")
app.add_typer(report, name="report")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb; exits with 2 when a setting must change, 1 for any other error of ours."""
    try:
        app(arguments)
    except MadError as error:
        screen.complain(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
