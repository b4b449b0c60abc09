"""``mad score``: verdicts on inputs in a file, without a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen, verdicts
from mad.cli.options import Config, Inputs, Revision

if TYPE_CHECKING:
    from mad.monitor import Monitor
    from mad.types import Dataset, Verdict

BATCH = 256


def score(
    config: Config,
    inputs: Inputs,
    baseline: Revision = "",
    out: Annotated[
        Path | None, typer.Option(help="Write every verdict to this file, one JSON object a line.")
    ] = None,
    top: Annotated[int, typer.Option(help="Most surprising inputs to show.", min=0)] = 10,
) -> None:
    """Score inputs offline; raises no alert."""
    from mad.arrays import open_dataset
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    monitor = deployment.monitor(baseline)
    data = open_dataset([inputs], names=deployment.model.inputs)
    found = _judge_all(monitor, data)
    order = sorted(range(len(found)), key=lambda row: -found[row].surprise_bits)
    names = [name for name, _ in verdicts.summary(found[0])]
    screen.table(
        f"Most surprising of {len(found)} inputs",
        ("row", *names),
        [(str(row), *(value for _, value in verdicts.summary(found[row]))) for row in order[:top]],
    )
    alerts = sum(verdict.is_alert for verdict in found)
    manifest = monitor.baseline.manifest
    screen.say(
        f"{alerts} of {len(found)} inputs ({alerts / len(found):.2%}) have a p-value at or below "
        f"{manifest.false_alarm_rate:g}, the false-alarm rate of {manifest.revision}"
    )
    if out is not None:
        verdicts.write_lines(out, found)
        screen.say(f"verdicts written to {out}")


def _judge_all(monitor: "Monitor", data: "Dataset") -> list["Verdict"]:
    import torch

    found: list[Verdict] = []
    with screen.progress() as progress:
        for rows in torch.arange(len(data)).split(BATCH):
            batch = data.take(rows)
            monitor.check(batch)
            found += monitor.judge(batch, max_charges=0).verdicts
            progress("scoring", done=len(found), total=len(data))
    return found
