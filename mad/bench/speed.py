"""What watching costs: one run that times the bare model beside capture, components and codes.

Run as ``python -m mad.bench.speed``. Times of one machine compare with those of no other, so the
figures to read are the ratios.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import final

import torch
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor, nn
from torch.nn import functional

from mad.arrays import Table
from mad.bench.set_speed import fit_set_codes, measure_sets, show_sets
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.joined import Joined
from mad.fit import FitPlan, fit
from mad.scoring import Scorer

BATCHES = (1, 64, 1_024)
ROUNDS = 20


@final
@dataclass(frozen=True, kw_only=True)
class Size:
    """A multilayer perceptron of equal layers, each watched through a dictionary."""

    width: int = 768
    layers: int = 2
    components: int = 16_384
    active: int = 32


@final
@dataclass(frozen=True)
class Cost:
    """Median milliseconds a batch: the bare model, and each stage of scoring."""

    batch: int
    bare: float
    forward: float
    components: float
    codes: float

    @property
    def slowdown(self) -> float:
        """How many times the bare model's time scoring takes."""
        return (self.forward + self.components + self.codes) / self.bare

    @property
    def codes_share(self) -> float:
        """Time of the codes over that of the dictionaries."""
        return self.codes / self.components


def build(size: Size) -> Scorer:
    """Make a model, dictionaries that nobody trained, and codes fitted on noise."""
    module = nn.Sequential(
        *(
            layer
            for _ in range(size.layers)
            for layer in (nn.Linear(size.width, size.width), nn.ReLU())
        ),
        nn.Linear(size.width, 10),
    )
    model = MonitoredModel.of(module, name="speed", inputs=["x"])
    sites = [str(2 * number + 1) for number in range(size.layers)]
    decomposition = Joined(tuple(untrained(site, size) for site in sites))
    trusted = Table({"x": torch.randn(1_000, size.width)})
    plan = FitPlan(name="speed")
    baseline = fit(
        model, decomposition, trusted, plan, created=datetime.now(UTC), progress=_no_progress
    )
    return Scorer(model, decomposition, baseline.parts, plan.context)


def untrained(site: str, size: Size) -> Dictionary:
    """Make a dictionary of random unit directions."""
    directions = functional.normalize(torch.randn(size.components, size.width), dim=1)
    return topk_dictionary(
        site=site,
        pooling="auto",
        k=size.active,
        encoder=directions.T.contiguous(),
        bias=torch.zeros(size.components),
        decoder=directions,
        centre=torch.zeros(size.width),
        scale=torch.tensor(1.0),
    )


def measure(
    scorer: Scorer,
    x: Tensor,
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Score one batch several times, each time after the bare model, and take medians."""
    bare, stages = [], []
    for _ in range(rounds + 1):
        start = clock()
        with torch.no_grad():
            scorer.model.module(x)
        bare.append(clock() - start)
        observed = scorer.observe({"x": x}, clock=clock)
        start = clock()
        scorer.charge(observed)
        stages.append({**observed.stage_seconds, "codes": clock() - start})
    # The first round is warming up.
    return Cost(
        len(x),
        1e3 * statistics.median(bare[1:]),
        *(
            1e3 * statistics.median(one[stage] for one in stages[1:])
            for stage in ("forward", "components", "codes")
        ),
    )


def show(costs: Sequence[Cost], console: Console) -> None:
    """Print one row a batch size."""
    times = ("bare ms", "forward ms", "components ms", "codes ms")
    printed = Printed(
        "batch", *times, "slowdown", "codes / components", title="What watching costs"
    )
    for cost in costs:
        printed.add_row(
            str(cost.batch),
            *(f"{ms:.2f}" for ms in (cost.bare, cost.forward, cost.components, cost.codes)),
            f"{cost.slowdown:.1f}x",
            f"{cost.codes_share:.2f}",
        )
    console.print(printed)


def _no_progress(stage: str, *, done: int, total: int, note: str = "") -> None:
    """Say nothing."""


if __name__ == "__main__":
    size = Size()
    watched = build(size)
    batches = (torch.randn(batch, size.width) for batch in BATCHES)
    show([measure(watched, x, rounds=ROUNDS) for x in batches], Console())
    dictionary = untrained("site", size)
    codes = fit_set_codes(dictionary)
    batches = (torch.randn(batch, size.width) for batch in BATCHES)
    show_sets([measure_sets(dictionary, codes, x, rounds=ROUNDS) for x in batches], Console())
