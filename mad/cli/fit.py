"""``mad fit``: a baseline from trusted data."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mad.cli import screen
from mad.cli.options import Config
from mad.cli.train import show_figures

if TYPE_CHECKING:
    from mad.baseline.bundle import Baseline
    from mad.deployment import Deployment
    from mad.types import Dataset

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SAMPLE = 512
"""Reference inputs that the mean bits of each part are taken over."""


def fit(config: Config) -> None:
    """Fit a baseline, training the dictionaries first if there are none."""
    from mad.deployment import Deployment

    deployment = Deployment.load(config)
    data = deployment.trusted()
    deployment.check(data)
    with screen.progress() as progress:
        figures = () if deployment.is_trained else deployment.train(data, progress=progress)
        baseline = deployment.fit(data, created=datetime.now(UTC), progress=progress)
    if figures:
        show_figures(figures)
    _show_parts(deployment, baseline, data)
    _show_reference(baseline)
    screen.say(
        f"baseline {baseline.revision} written to "
        f"{deployment.store.root / baseline.manifest.name / str(baseline.manifest.version)}"
        " and active"
    )


def _show_parts(deployment: "Deployment", baseline: "Baseline", data: "Dataset") -> None:
    rows = deployment.rows(data).reference[:SAMPLE]
    ledger = deployment.monitor(baseline.revision).scorer.score(data.take(rows)).ledger
    screen.table(
        f"Mean bits of {len(rows)} reference inputs",
        ("site", "term", "bits"),
        [
            (site, term, f"{bits:.1f}")
            for (site, term), bits in zip(ledger.keys, ledger.bits.mean(dim=0), strict=True)
        ],
    )


def _show_reference(baseline: "Baseline") -> None:
    import torch

    manifest = baseline.manifest
    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    quantiles = torch.quantile(baseline.reference, levels).tolist()
    screen.table(
        "Surprise of the held-out inputs, in bits, by quantile",
        [f"{level:.0%}" for level in QUANTILES],
        [[f"{bits:.1f}" for bits in quantiles]],
    )
    screen.facts(
        "Baseline",
        [
            (
                "trusted inputs",
                f"{manifest.fit_inputs} fitted, {manifest.reference_inputs} held out",
            ),
            ("false-alarm rate", f"{manifest.false_alarm_rate:g}"),
            ("threshold, bits", f"{manifest.threshold_bits:.1f}"),
            ("smallest p-value", f"{1 / (manifest.reference_inputs + 1):.2g}"),
        ],
    )
