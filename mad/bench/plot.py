"""A task's result in, a picture out: what each method finds, and where the surprises lie."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from mad.bench.detection import Tally
from mad.bench.figures import ALPHA
from mad.bench.run import Result, is_own
from mad.calibration.conformal import threshold
from mad.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEST_PEERS = 3
"""Peers drawn beside mad: those with the highest recall at 1 %."""

FURTHEST = 15
"""The axis ends at so many times the distance from the median to the threshold."""

_COLOURS = {
    "reference": "#9aa5b1",
    "test_normal": "#2b6cb0",
    "benign_shift": "#d69e2e",
    "test_anomalous": "#c53030",
}
_NAMES = {
    "reference": "trusted reference",
    "test_normal": "normal",
    "benign_shift": "harmless shift",
    "test_anomalous": "anomalous",
}


def check_installed() -> None:
    """Raise ConfigError when matplotlib, which is an extra, is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("plots need matplotlib: pip install 'mad[bench]'")


def draw(result: Result, folder: Path) -> Path:
    """Write ``TASK.png`` of the first fit: ROC curves, and histograms of mad's surprise.

    Raises:
        ConfigError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    picture = Figure(figsize=(13, 4.8), layout="constrained")
    FigureCanvasAgg(picture)
    left, right = picture.subplots(1, 2)
    picture.suptitle(result.task, fontweight="bold")
    _roc(left, result)
    _histograms(right, result)
    path = folder / f"{Path(result.task).name}.png"
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        picture.savefig(unfinished, dpi=120)
        unfinished.replace(path)
    except OSError as cause:
        raise ConfigError(f"cannot write {path}: {cause.strerror}") from cause
    return path


def chosen(result: Result) -> list[str]:
    """Return the methods to draw: mad, its other configurations, and the best few peers."""
    own = [name for name in result.figures if is_own(name)]
    peers = [name for name in result.figures if not is_own(name)]
    return own + sorted(peers, key=lambda name: _merit(result, name), reverse=True)[:BEST_PEERS]


def _merit(result: Result, name: str) -> tuple[float, float]:
    estimates = result.figures[name].estimates
    recall, area = estimates["recall_at_fpr_01"], estimates["auroc"]
    return (recall.value if recall else 0.0, area.value if area else 0.0)


def _roc(axes: "Axes", result: Result) -> None:
    """Draw detection rate over false-alarm rate, from one false alarm up, on a log axis."""
    least = 1 / result.first["mad"].scores["test_normal"].numel()
    for name in chosen(result):
        scores = result.first[name].scores
        tally = Tally.of(scores["test_normal"].numpy(), scores["test_anomalous"].numpy())
        # What is found without a false alarm, which a log axis has no place for, starts the line.
        alarms = np.maximum(tally.alarms / tally.alarms[-1], least / 2)
        axes.step(alarms, tally.found / tally.found[-1], where="post", **_style(result, name))
    rates = np.geomspace(least, 1, 100)
    axes.plot(rates, rates, color="#a0aec0", linewidth=1, linestyle=":", label="chance")
    axes.axvline(ALPHA, color="#4a5568", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", xlim=(least, 1), ylim=(0, 1.03))
    axes.set(xlabel="false-alarm rate on normal inputs", ylabel="share of anomalies found")
    axes.grid(alpha=0.25)
    # Beside the axes: curves of good and bad methods leave no corner free.
    axes.legend(
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        title="recall at 1 %",
        title_fontsize=8,
    )


def _style(result: Result, name: str) -> dict[str, Any]:
    """Draw mad boldly, behind what may cover it; its other configurations thinly; peers dashed."""
    recall = result.figures[name].estimates["recall_at_fpr_01"]
    label = name if recall is None else f"{name}  {recall.value:.2f}"
    if name == "mad":
        return {"label": label, "color": "#1a202c", "linewidth": 3.0, "zorder": 1.5}
    return {"label": label, "linewidth": 1.3, "linestyle": "-" if is_own(name) else "--"}


def _histograms(axes: "Axes", result: Result) -> None:
    """Draw the share of inputs of each kind by mad's surprise, and the threshold of an alert."""
    scores = {name: found.numpy() for name, found in result.first["mad"].scores.items()}
    bins = _bins(scores)
    for name, colour in _COLOURS.items():
        if name not in scores:
            continue
        inside = np.clip(scores[name], bins[0], bins[-1])
        is_filled = name in ("test_normal", "test_anomalous")
        axes.hist(
            inside,
            bins=list(bins),
            weights=np.full(inside.size, 1 / inside.size),
            histtype="stepfilled" if is_filled else "step",
            alpha=0.45 if is_filled else 1.0,
            linewidth=1.4,
            color=colour,
            label=f"{_NAMES[name]} ({inside.size:,})",
        )
    alert = threshold(result.first["mad"].scores["reference"].sort().values, ALPHA)
    axes.axvline(alert, color="#4a5568", linewidth=0.8, linestyle="--", label="alert at 1 %")
    axes.set(xlabel="surprise, bits (ends hold what lies beyond)", ylabel="share of inputs")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="best")


def _bins(scores: Mapping[str, Float64[np.ndarray, " input"]]) -> Float64[np.ndarray, " edge"]:
    """Return edges that show ordinary and anomalous inputs both, but not their furthest few."""
    finite = [found[np.isfinite(found)] for found in scores.values()]
    low = min(float(np.quantile(found, 0.005)) for found in finite if found.size)
    high = max(float(np.quantile(found, 0.99)) for found in finite if found.size)
    middle, common = np.quantile(scores["reference"], (0.5, 0.99))
    # Anomalies far out must not squeeze everything else into one bar.
    high = min(high, float(middle + FURTHEST * (common - middle)))
    return np.linspace(low, max(high, low + 1e-6), 61)
