"""``mad fit``: a baseline from trusted data."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import screen
from mad.cli.options import Config
from mad.cli.train import show_trained
from mad.cli.verdicts import MEASURES

if TYPE_CHECKING:
    from mad.baseline.bundle import Baseline
    from mad.deployment import Deployment
    from mad.types import Dataset

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SAMPLE = 512
"""Reference inputs that the mean lengths are taken over."""


def fit(
    config: Config,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of going on with a killed fit.")
    ] = False,
) -> None:
    """Fit a baseline, training its components first if there are none.

    A fit that was killed goes on at the row it had reached, from checkpoints beside the baselines;
    a training of components at its step, from checkpoints beside them.
    """
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    data = deployment.trusted()
    deployment.check(data)
    if restart:
        deployment.untrained.remove()
        deployment.unfinished.remove()
    with screen.progress() as progress:
        figures = () if deployment.is_trained else deployment.train(data, progress=progress)
        baseline = deployment.fit(data, created=datetime.now(UTC), progress=progress)
    if figures:
        show_trained(deployment, figures)
    _show_parts(deployment, baseline, data)
    _show_rarities(baseline)
    _show_baseline(baseline)
    screen.say(
        f"baseline {baseline.revision} written to "
        f"{deployment.store.place(baseline.manifest.name, baseline.manifest.version)} and active"
    )


def _show_parts(deployment: "Deployment", baseline: "Baseline", data: "Dataset") -> None:
    rows = deployment.rows(data).reference[:SAMPLE]
    ledger = deployment.monitor(baseline.revision).scorer.score(data.take(rows)).ledger
    screen.table(
        f"Mean length of {len(rows)} reference inputs",
        ("site", "term", "bits"),
        [
            (site, term, f"{bits:.1f}")
            for (site, term), bits in zip(ledger.keys, ledger.bits.mean(dim=0), strict=True)
        ],
    )


def _show_rarities(baseline: "Baseline") -> None:
    import torch

    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    screen.table(
        "Rarity of the reference, in bits, by quantile",
        ("", *(f"{level:.0%}" for level in QUANTILES)),
        [
            (measure, *(f"{bits:.1f}" for bits in torch.quantile(reference, levels).tolist()))
            for measure, reference in zip(MEASURES, baseline.references, strict=True)
        ],
    )


def _show_baseline(baseline: "Baseline") -> None:
    from mad.calibration.conformal import attainable_rate
    from mad.promotion import halves

    manifest = baseline.manifest
    screen.facts(
        "Baseline",
        [
            (
                "trusted inputs",
                f"{manifest.fit_inputs} fitted, {manifest.weighing_inputs} weigh parts, "
                f"{manifest.reference_inputs} are the reference",
            ),
            ("false-alarm rate", f"{manifest.false_alarm_rate:g}"),
            ("smallest rate it can promise", f"{attainable_rate(manifest.reference_inputs):.2g}"),
            ("alerts go by", manifest.alert_on),
            (
                "above, bits",
                "by context" if manifest.by_context else f"{manifest.threshold_bits:.1f}",
            ),
            ("reference's later half, by its earlier", halves(baseline).verdict),
        ],
    )
