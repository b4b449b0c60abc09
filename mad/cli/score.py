"""``mad score``: verdicts on inputs in a file, without a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen, verdicts
from mad.cli.options import Config, Inputs, Revision

if TYPE_CHECKING:
    from mad.deployment import Deployment
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
    *,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Also score what the inputs, as a batch, have in common."),
    ] = False,
) -> None:
    """Score inputs without a server; raises no alert."""
    from mad.arrays import open_dataset
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    monitor = deployment.monitor(baseline)
    data = open_dataset([inputs], names=deployment.model.inputs)
    batch = _offline(deployment, data) if offline else []
    found = _judge_all(monitor, data)
    # What only the batch shows would be far down a list by surprise.
    merit = batch or [verdict.surprise_bits for verdict in found]
    order = sorted(range(len(found)), key=lambda row: -merit[row])
    names = [name for name, _ in verdicts.summary(found[0])]
    screen.table(
        f"Most surprising of {len(found)} inputs{', offline' if offline else ''}",
        ("row", *(["offline, bits"] if offline else []), *names),
        [
            (
                str(row),
                *([f"{batch[row]:.1f}"] if offline else []),
                *(value for _, value in verdicts.summary(found[row])),
            )
            for row in order[:top]
        ],
    )
    alerts = sum(verdict.is_alert for verdict in found)
    manifest = monitor.baseline.manifest
    screen.say(
        f"{alerts} of {len(found)} inputs ({alerts / len(found):.2%}) have a p-value at or below "
        f"{manifest.false_alarm_rate:g}, the false-alarm rate of {manifest.revision}"
    )
    if out is not None:
        verdicts.write_lines(out, found, offline_bits=batch)
        screen.say(f"verdicts written to {out}")


def _offline(deployment: "Deployment", data: "Dataset") -> list[float]:
    """Score the inputs as a batch, and say how many stand out."""
    from mad.bench.offline import check_batch
    from mad.cli.offline import offline_bits

    check_batch(len(data))
    with screen.progress() as progress:
        found = offline_bits(deployment, data, progress=progress)
    above = int((found.bits > found.common_bits).sum())
    screen.say(
        f"offline: {above} of {len(data)} inputs ({above / len(data):.2%}) are above "
        f"{found.common_bits:.1f} bits, which 1 % of held-out trusted inputs are; the batch shapes "
        "its own score, so this promises no false-alarm rate"
    )
    return found.bits.tolist()


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
