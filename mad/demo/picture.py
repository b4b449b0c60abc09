"""Mechanism against novelty of the three kinds of traffic, with what each must exceed."""

import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mad.demo.stream import Answers
from mad.types import Measure

_STYLES = {
    "ordinary": ("tab:blue", "o"),
    "shifted": ("black", "x"),
    "triggered": ("tab:red", "^"),
}
_TICKS = (0, 1, 3, 7, 20, 100, 1000)


def draw(
    answers: Mapping[str, Answers], thresholds: Mapping[Measure, float], *, path: Path
) -> None:
    """Draw every image of each kind of traffic as a point, and write a PNG."""
    figure = Figure(figsize=(7.5, 6.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for kind, (colour, marker) in _STYLES.items():
        told = answers[kind].rarity
        axes.scatter(
            told["mechanism"].log1p().numpy(),
            told["novelty"].log1p().numpy(),
            s=14,
            alpha=0.5,
            color=colour,
            marker=marker,
            linewidths=0.8,
            label=f"{kind}: {len(answers[kind])} images",
        )
    _mark(axes, thresholds)
    axes.set_title("What was unusual: how components were used, or the activity itself?")
    axes.legend(loc="upper right")
    figure.savefig(path)


def _mark(axes: Axes, thresholds: Mapping[Measure, float]) -> None:
    """Put thresholds and ticks on axes of ``ln(1 + bits)``, which grow ever slower."""
    mechanism, novelty = (_place(thresholds[name]) for name in ("mechanism", "novelty"))
    axes.axvline(mechanism, color="tab:orange", linestyle="--")
    axes.axhline(novelty, color="tab:orange", linestyle="--")
    places = [_place(bits) for bits in _TICKS]
    labels = [str(bits) for bits in _TICKS]
    axes.set_xticks(places, labels)
    axes.set_yticks(places, labels)
    axes.set_xlabel("mechanism, bits")
    axes.set_ylabel("novelty, bits")


def _place(bits: float) -> float:
    return math.log1p(bits)
