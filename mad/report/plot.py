"""An accounting as stacked bars: what the bits of one input are spent on, by vocabulary."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mad.report.accounting import SHARES, Accounting
from mad.report.table import sites
from mad.types import Site

_COLOURS = {
    "parameters": "#9aa5b1",
    "set": "#d1495b",
    "magnitudes": "#edae49",
    "residual": "#30638e",
}
_LEGIBLE_SHARE = 0.07
"""Segments narrower than this share of the longest bar have no room for their figure."""


def draw(accounting: Accounting, path: Path) -> None:
    """Write a PNG: all sites together first, then each site."""
    where = sites(accounting)
    panels: list[tuple[str, Site | None]] = [(f"site {site}", site) for site in where]
    if len(where) > 1:
        panels.insert(0, ("all sites", None))
    bars = len(accounting.vocabularies)
    height = 1.4 + len(panels) * (0.7 + 0.42 * bars)
    figure = Figure(figsize=(9, height), dpi=150, layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (heading, site) in zip(all_axes, panels, strict=True):
        _panel(axes, accounting, site)
        axes.set_title(heading, loc="left", fontsize=10)
    all_axes[-1].set_xlabel(f"bits an input, for {accounting.inputs:,} inputs")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(SHARES), frameon=False)
    figure.savefig(path, format="png")


def _panel(axes: Axes, accounting: Accounting, site: Site | None) -> None:
    bits = {name: accounting.per_input(name, site) for name in accounting.vocabularies}
    longest = max(sum(shares.values()) for shares in bits.values())
    for place, (_, shares) in enumerate(bits.items()):
        left = 0.0
        for share in SHARES:
            width = shares[share]
            label = share if place == 0 else None
            axes.barh(place, width, left=left, color=_COLOURS[share], label=label, height=0.7)
            if width > _LEGIBLE_SHARE * longest:
                axes.text(
                    left + width / 2,
                    place,
                    f"{width:.0f}",
                    ha="center",
                    va="center",
                    color="white",
                    fontsize=8,
                )
            left += width
        axes.text(left, place, f" {left:.0f}", va="center", fontsize=9, fontweight="bold")
    axes.set_yticks(range(len(bits)), list(bits))
    axes.invert_yaxis()
    axes.set_xlim(0, (longest or math.inf) * 1.08)
    axes.spines[["top", "right"]].set_visible(False)
