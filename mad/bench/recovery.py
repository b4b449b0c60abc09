"""How fast each kind of dictionary finds what is known to be there: toys in, curves by step out.

Run as ``python -m mad.bench.recovery``; ``--kinds``, ``--initial``, ``--toys``, ``--seeds`` and
``--steps`` say what to train. Vectors are drawn as they are needed, none twice.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

import torch
from rich.console import Console
from rich.table import Table as Printed

from mad.bench.toys import Toy, correlated, gaussians, square, superposed
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.registry import LEARNERS
from mad.components.dictionaries.kinds.relu import ReLUEncoder
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.recovery import recovery
from mad.components.dictionaries.train import figures
from mad.components.dictionaries.training import Training

SAMPLE, MEASURED = 16_384, 4_096
"""Vectors that a training starts and is calibrated with, and others that measure."""

AT: Final = (25, 50, 100, 200, 400, 800, 1_500)
"""Steps to measure after."""

COLUMNS: Final = (
    *("toy", "kind", "initial", "seed", "steps", "active", "FVU"),
    *("MMCS", "matched", "above 0.95", "shrunk", "CPU s"),
)


@final
@dataclass(frozen=True)
class Setting:
    """A toy, and dictionaries that fit it: at least twice as many latents as there are features."""

    toy: Callable[[], Toy]
    width: int
    k: int
    learning_rate: float = 4.5e-3

    def plan(self, **changes: object) -> DictionaryPlan:
        """Return how to train one."""
        own = {"width": self.width, "k": self.k, "learning_rate": self.learning_rate}
        return DictionaryPlan(**{"batch_size": 1_024, **own, **changes})  # type: ignore[arg-type]  # its fields


SETTINGS: Final[Mapping[str, Setting]] = {
    "superposed": Setting(superposed, 512, 4),
    "zipf": Setting(lambda: superposed(rates="zipf"), 512, 4),
    "correlated": Setting(correlated, 512, 4),
    "gaussians": Setting(gaussians, 32, 1),
    "square": Setting(square, 32, 2),
}


@final
@dataclass(frozen=True, slots=True)
class Point:
    """What a dictionary is like after some steps; NaN where no directions are known.

    ``nearest`` is the MMCS, ``matched`` the mean cosine of one-to-one matches, and ``recovered``
    the share of known directions matched with a cosine above 0.95.
    """

    steps: int
    active: float
    unexplained_variance: float
    nearest: float
    matched: float
    recovered: float


@final
@dataclass(frozen=True)
class Curve:
    """One training; ``shrunk`` is the relative bias that a penalty left, None without a penalty."""

    toy: str
    kind: str
    initial: str
    seed: int
    points: tuple[Point, ...]
    shrunk: float | None
    cpu_seconds: float

    def steps_to(self, unexplained_variance: float) -> float:
        """Return the steps after which no more is left over; infinity if it never was."""
        reached = (
            one.steps for one in self.points if one.unexplained_variance <= unexplained_variance
        )
        return next(reached, math.inf)


def curve(toy: Toy, plan: DictionaryPlan, *, at: Sequence[int] = AT) -> Curve:
    """Train one dictionary, and measure it after some of its steps, and after the last."""
    generator = torch.Generator().manual_seed(plan.seed)
    sample = Examples.own(toy.draw(SAMPLE, generator))
    measured = toy.draw(MEASURED, generator)
    training = Training.begin(Look.at(toy.name, "flatten"), sample, plan)
    points, spent = [], 0.0
    dictionary = training.finish(sample)
    for step in range(1, plan.steps + 1):
        batch = Examples.own(toy.draw(plan.batch_size, generator))
        before = time.process_time()
        training.step(batch)
        spent += time.process_time() - before
        if step in at or step == plan.steps:
            dictionary = training.finish(sample)
            points.append(_point(step, dictionary, toy, measured))
    encoder = dictionary.encoder
    shrunk = encoder.shrunk if isinstance(encoder, ReLUEncoder) else None
    return Curve(toy.name, plan.kind, plan.initial, plan.seed, tuple(points), shrunk, spent)


def _point(step: int, dictionary: Dictionary, toy: Toy, measured: torch.Tensor) -> Point:
    found = figures(dictionary, measured)
    known = (math.nan,) * 3
    if toy.directions is not None:
        truth = recovery(_seen_from(dictionary, toy), dictionary.decoder)
        assert truth.matched is not None, "toys are small enough to match"
        known = (truth.nearest.mean, truth.matched.mean, truth.matched.above_95)
    return Point(step, found.active_latents, found.unexplained_variance, *known)


def _seen_from(dictionary: Dictionary, toy: Toy) -> torch.Tensor:
    """Return known directions as the dictionary may have them: of places, from its own centre."""
    assert toy.directions is not None
    return toy.directions - dictionary.target.centre if toy.is_places else toy.directions


def rows(curves: Sequence[Curve]) -> list[tuple[str, ...]]:
    """Return one row a curve, of its last point, in the order of ``COLUMNS``."""
    return [
        (
            *(one.toy, one.kind, one.initial, str(one.seed), f"{one.points[-1].steps:,}"),
            f"{one.points[-1].active:.1f}",
            f"{one.points[-1].unexplained_variance:.3f}",
            *(_figure(value) for value in (one.points[-1].nearest, one.points[-1].matched)),
            _figure(one.points[-1].recovered),
            "" if one.shrunk is None else f"{one.shrunk:.3f}",
            f"{one.cpu_seconds:.1f}",
        )
        for one in curves
    ]


def show(curves: Sequence[Curve], console: Console) -> None:
    """Print one row a training."""
    printed = Printed(*COLUMNS, title="What dictionaries recover")
    for row in rows(curves):
        printed.add_row(*row)
    console.print(printed)


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write a PNG: for each toy, what is left over and what is recovered, by step."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    toys = tuple(dict.fromkeys(one.toy for one in curves))
    figure = Figure(figsize=(12, 0.4 + 3.6 * len(toys)), dpi=110, layout="constrained")
    for (left, right), toy in zip(figure.subplots(len(toys), 2, squeeze=False), toys, strict=True):
        for number, one in enumerate(own for own in curves if own.toy == toy):
            steps = [point.steps for point in one.points]
            style = "-" if one.initial == "data" else "--"
            label = f"{one.kind}, {one.initial}" if one.seed == curves[0].seed else None
            look = {"linestyle": style, "color": f"C{number % 10}", "alpha": 0.8}
            missed = [point.unexplained_variance for point in one.points]
            left.plot(steps, missed, label=label, **look)
            right.plot(steps, [point.recovered for point in one.points], **look)
        left.set(xscale="log", xlabel="steps", ylabel="share of variance left over", title=toy)
        right.set(xscale="log", xlabel="steps", ylabel="share of directions recovered")
        right.set(ylim=(0, 1.02))
        left.legend(fontsize=7)
    figure.savefig(path, format="png")


def _figure(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "n/a"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mad.bench.recovery", description=__doc__)
    parser.add_argument("--toys", nargs="+", choices=tuple(SETTINGS), default=("superposed",))
    parser.add_argument("--kinds", nargs="+", choices=tuple(LEARNERS), default=tuple(LEARNERS))
    parser.add_argument("--initial", nargs="+", default=("data",))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=AT[-1])
    parser.add_argument("--plot", type=Path, help="PNG of curves; needs matplotlib")
    parser.add_argument("--out", type=Path, help="JSON of every figure")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        curve(
            SETTINGS[name].toy(),
            SETTINGS[name].plan(kind=kind, initial=initial, steps=asked.steps, seed=seed),
        )
        for name in asked.toys
        for kind in asked.kinds
        for initial in asked.initial
        for seed in range(asked.seeds)
    ]
    show(found, Console(width=160))
    if asked.plot:
        draw(found, asked.plot)
    if asked.out:
        asked.out.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")
