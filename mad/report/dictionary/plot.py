"""A report as pictures: rates and quantiles of each dictionary, and all of them side by side."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mad.report.dictionary.charts import alike
from mad.report.dictionary.figures import Distribution
from mad.report.dictionary.report import DictionaryReport, Examined

_BAR, _MARK = "#3f6fd8", "#d3482f"


def draw(report: DictionaryReport, path: Path) -> list[Path]:
    """Write one PNG of everything, or into a directory one for all and one for each dictionary."""
    if path.suffix.lower() == ".png":
        return [_picture(report, report.dictionaries, path)]
    path.mkdir(exist_ok=True)
    written = [_picture(report, (), path / "all.png")]
    for number, one in enumerate(report.dictionaries):
        written.append(_picture(None, (one,), path / f"{number:03d}.png"))
    return written


def _picture(report: DictionaryReport | None, cards: tuple[Examined, ...], path: Path) -> Path:
    rows = len(cards) + (report is not None)
    figure = Figure(figsize=(13, 0.5 + 3.1 * rows), dpi=110, layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False)
    for own, one in zip(axes, cards, strict=False):
        _card(own, one)
    if report is not None:
        _frontier(axes[-1][0], report)
        _recovered(axes[-1][1], report)
        _alike(axes[-1][2], report)
    figure.savefig(path, format="png")
    return path


def _card(axes: np.ndarray, one: Examined) -> None:
    rates, active, magnitudes = axes
    edges = 10.0 ** np.array(one.use.rates.edges)
    rates.stairs(one.use.rates.counts, edges, fill=True, color=_BAR)
    rates.set(xscale="log", xlabel="share of inputs that activate a latent", ylabel="latents")
    dead = f"{one.use.dead_share:.1%} of {one.width} dead"
    rates.set_title(f"{one.view} ({one.kind}, {dead})", loc="left", fontsize=10)
    _box(active, one.use.active, "active latents an input")
    _box(magnitudes, one.use.magnitudes, "how far an active latent moves the activation")


def _box(axes: Axes, found: Distribution, label: str) -> None:
    low, first, middle, third, high = found.quantiles
    drawn = {"med": middle, "q1": first, "q3": third, "whislo": low, "whishi": high}
    axes.bxp(
        [{**drawn, "mean": found.mean, "label": ""}],
        orientation="horizontal",
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        boxprops={"facecolor": _BAR, "edgecolor": _BAR},
        medianprops={"color": "white", "linewidth": 2},
        meanprops={"marker": "o", "markerfacecolor": _MARK, "markeredgecolor": _MARK},
    )
    axes.set(xlabel=f"{label} (5 to 95 %)", xlim=(0, None))


def _frontier(axes: Axes, report: DictionaryReport) -> None:
    for one in report.dictionaries:
        x, y = one.use.active.mean, one.reconstruction.unexplained_variance
        axes.plot([x], [y], "o", color=_BAR, alpha=0.75)
        axes.annotate(one.view, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="mean active latents", ylabel="share of variance left over")
    axes.margins(0.15)
    axes.set(xlim=(0, None), ylim=(0, None))


def _recovered(axes: Axes, report: DictionaryReport) -> None:
    spliced = [(one.view, one.splice) for one in report.dictionaries if one.splice is not None]
    zero = [max(found.recovered_from_zero, 0.0) for _, found in spliced]
    mean = [max(found.recovered_from_mean, 0.0) for _, found in spliced]
    places = np.arange(len(spliced), dtype=float)
    axes.barh(places - 0.2, zero, height=0.38, color=_BAR, label="of zero ablation")
    axes.barh(places + 0.2, mean, height=0.38, color=_MARK, label="of mean ablation")
    axes.set_yticks(list(places), [view for view, _ in spliced])
    axes.set(xlabel="loss recovered", xlim=(0, 1.02))
    axes.invert_yaxis()
    if spliced:
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def _alike(axes: Axes, report: DictionaryReport) -> None:
    square = alike(report)
    axes.set_title("debiased CKA of codes", loc="left", fontsize=10)
    if square is None:
        axes.set_axis_off()
        return
    values = [[cell.strength if cell else np.nan for cell in row] for row in square.rows]
    axes.imshow(values, vmin=0, vmax=1, cmap="Blues")
    for y, row in enumerate(square.rows):
        for x, cell in enumerate(row):
            if cell is not None:
                colour = "white" if cell.strength > 0.6 else "black"  # noqa: PLR2004  # legible
                axes.text(x, y, cell.text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(square.names)), list(square.names), rotation=30, ha="right")
    axes.set_yticks(range(len(square.names)), list(square.names))
