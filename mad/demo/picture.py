"""Surprise of the three kinds of traffic as one histogram, with the alert threshold."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mad.types import Bits

_COLOURS = {"ordinary": "tab:blue", "triggered": "tab:red", "shifted": "black"}


def draw(surprise: Mapping[str, Bits], *, threshold_bits: float, path: Path) -> None:
    """Draw the share of each kind of traffic that has each surprise, and write a PNG."""
    everything = np.concatenate([bits.numpy() for bits in surprise.values()])
    edges = np.linspace(everything.min(), everything.max(), 61).tolist()
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for kind, bits in surprise.items():
        above = float((bits > threshold_bits).double().mean())
        axes.hist(
            bits.numpy(),
            bins=edges,
            weights=np.full(len(bits), 100 / len(bits)),
            # Ordinary and shifted images lie on top of each other, as they should.
            histtype="step" if kind == "shifted" else "stepfilled",
            alpha=0.9 if kind == "shifted" else 0.45,
            color=_COLOURS[kind],
            label=f"{kind}: {len(bits)} images, {above:.1%} above the threshold",
        )
    axes.axvline(
        threshold_bits,
        color="tab:orange",
        linestyle="--",
        label=f"threshold: {threshold_bits:.0f} bits",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("surprise, bits")
    axes.set_ylabel("share of images, %")
    axes.set_title("How unusual were the model's mechanisms?")
    axes.legend()
    figure.savefig(path)
