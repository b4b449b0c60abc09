"""``mad explain``: why one input is surprising, without a server."""

from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen, verdicts
from mad.cli.options import Config, Inputs, Revision
from mad.errors import InputError

if TYPE_CHECKING:
    from mad.counterfactual import Counterfactual


def explain(
    config: Config,
    inputs: Inputs,
    row: Annotated[int, typer.Argument(help="Row of the input, from 0.", min=0)] = 0,
    baseline: Revision = "",
    charges: Annotated[int, typer.Option(help="Components to show.", min=1, max=1024)] = 20,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="Also run the model without what is named.")
    ] = False,
) -> None:
    """Split one input's surprise over sites, terms and components."""
    import torch

    from mad.arrays import open_dataset
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    monitor = deployment.monitor(baseline)
    data = open_dataset([inputs], names=deployment.model.inputs)
    if row >= len(data):
        raise InputError(f"row {row} is not in {inputs}, which has rows 0 to {len(data) - 1}")
    one = data.take(torch.tensor([row]))
    monitor.check(one)
    verdict, explanation = monitor.explain(one, max_charges=charges)
    screen.facts(
        f"Row {row} of {inputs} under {monitor.baseline.revision}", verdicts.summary(verdict)
    )
    verdicts.show_ledger(verdict, explanation)
    if counterfactual:
        screen.table(
            "Without what is named",
            ("site", "taken away", "label", "label then", "output moves by"),
            [_without(found) for found in monitor.counterfactuals(one, explanation)],
        )


def _without(found: "Counterfactual") -> tuple[str, ...]:
    taken = " ".join(map(str, found.removed)) or "the residual"
    labels = (found.label_before, found.label_after)
    shown = (str(label) if label >= 0 else "none" for label in labels)
    return (found.site, taken, *shown, f"{found.output_change:.1%}")
