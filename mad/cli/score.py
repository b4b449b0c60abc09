"""``mad score``: verdicts on inputs in a file, without a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen, verdicts
from mad.cli.options import Config, Inputs, Revision

if TYPE_CHECKING:
    from mad.baseline.bundle import Baseline
    from mad.deployment import Deployment
    from mad.monitor import Monitor
    from mad.types import Dataset, Measure, Verdict

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
    manifest = monitor.baseline.manifest
    _show(found, batch, measure=manifest.alert_on, top=top)
    alerts = sum(verdict.is_alert for verdict in found)
    screen.say(
        f"{alerts} of {len(found)} inputs ({alerts / len(found):.2%}) have a p-value at or below "
        f"{manifest.false_alarm_rate:g}, the false-alarm rate of {manifest.revision}"
    )
    _say_of_each_measure(monitor.baseline, found)
    if offline:
        rate = manifest.false_alarm_rate
        alike = sum(one["offline_p_value"] <= rate for one in batch)
        screen.say(
            f"offline: {alike} of {len(found)} inputs ({alike / len(found):.2%}) have a p-value at "
            f"or below {rate:g}, by what they have in common with others of the batch"
        )
    if out is not None:
        verdicts.write_lines(out, found, beside=batch)
        screen.say(f"verdicts written to {out}")


def _show(
    found: list["Verdict"], batch: list[dict[str, float]], *, measure: "Measure", top: int
) -> None:
    """Print the most unusual inputs; what only the batch shows comes first, where it does."""
    merit = [one["offline_bits"] for one in batch]
    merit = merit or [getattr(one, f"{measure}_bits") for one in found]
    order = sorted(range(len(found)), key=lambda row: -merit[row])[:top]
    names = [name for name, _ in verdicts.summary(found[0])]
    rows = [[str(row), *(value for _, value in verdicts.summary(found[row]))] for row in order]
    if batch:
        names += ["offline, bits", "offline p-value"]
        for row, cells in zip(order, rows, strict=True):
            cells += [f"{merit[row]:.1f}", f"{batch[row]['offline_p_value']:.3g}"]
    by = "what they have in common" if batch else measure
    screen.table(f"Most unusual of {len(found)} inputs, by {by}", ("row", *names), rows)


def _say_of_each_measure(baseline: "Baseline", found: list["Verdict"]) -> None:
    """Say how many inputs each measure would alert on."""
    from mad.calibration.conformal import threshold

    counts = []
    for measure, reference in zip(verdicts.MEASURES, baseline.references, strict=True):
        above = threshold(reference.sort().values, baseline.manifest.false_alarm_rate)
        alarms = sum(getattr(verdict, f"{measure}_bits") > above for verdict in found)
        counts.append(f"{alarms} by {measure}")
    screen.say(f"each measure by itself, at that rate: {', '.join(counts)}")


def _offline(deployment: "Deployment", data: "Dataset") -> list[dict[str, float]]:
    """Score the inputs as a batch, as fields of their lines of results."""
    from mad.bench.offline import check_batch
    from mad.cli.offline import score_batch

    check_batch(len(data) // 2)
    with screen.progress() as progress:
        found = score_batch(deployment, data, progress=progress)
    return [
        {"offline_bits": bits, "offline_p_value": p}
        for bits, p in zip(found.bits.tolist(), found.p_values.tolist(), strict=True)
    ]


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
