"""Surprises to make streams of: drawn from a law, or scored on a task's own inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float64

from mad.arrays import Table
from mad.baseline.bundle import Baseline
from mad.bench.detection import Tally, auroc
from mad.bench.tasks import Task, batches
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.joined import Joined
from mad.fit import FitPlan, fit, split, train_dictionaries
from mad.scoring import Scorer
from mad.types import Inputs, Progress

_BATCH: Final = 256

Draw: TypeAlias = Callable[[np.random.Generator, int], Float64[np.ndarray, " input"]]


@final
@dataclass(frozen=True)
class Scores:
    """Ways to draw surprises of each kind, and how well one surprise tells them apart."""

    name: str
    reference: Draw
    ordinary: Draw
    anomalous: Draw
    auroc: float

    @staticmethod
    def of(name: str, reference: Draw, ordinary: Draw, anomalous: Draw) -> "Scores":
        """Measure the area under the curve on a sample of its own."""
        chance = np.random.default_rng(0)
        tally = Tally.of(ordinary(chance, 4000), anomalous(chance, 4000))
        return Scores(name, reference, ordinary, anomalous, float(auroc(tally)))

    def stream(
        self, chance: np.random.Generator, length: int, *, rate: float
    ) -> Float64[np.ndarray, " input"]:
        """Draw a stream in which each input is an anomaly with a chance of ``rate``."""
        surprise = self.ordinary(chance, length)
        is_anomaly = chance.random(length) < rate
        surprise[is_anomaly] = self.anomalous(chance, int(is_anomaly.sum()))
        return surprise


def gaussian(shift: float) -> Scores:
    """Return normal surprises, anomalies being shifted by so many standard deviations."""

    def ordinary(chance: np.random.Generator, count: int) -> Float64[np.ndarray, " input"]:
        return chance.standard_normal(count)

    def anomalous(chance: np.random.Generator, count: int) -> Float64[np.ndarray, " input"]:
        return chance.standard_normal(count) + shift

    return Scores.of("normal", ordinary, ordinary, anomalous)


def heavy(scale: float) -> Scores:
    """Return surprises with a heavy tail; some anomalies lie far out, others among the ordinary.

    Ordinary ones are Student's t with 5 degrees of freedom; anomalies add a Gamma of shape 2.
    """

    def ordinary(chance: np.random.Generator, count: int) -> Float64[np.ndarray, " input"]:
        return chance.standard_t(5, count)

    def anomalous(chance: np.random.Generator, count: int) -> Float64[np.ndarray, " input"]:
        return chance.standard_t(5, count) + chance.gamma(2, scale, count)

    return Scores.of("heavy tails", ordinary, ordinary, anomalous)


LAWS: Final = (gaussian(2.90), heavy(4.4), gaussian(2.09), heavy(2.0))
"""Two laws with an area under the curve of 0.98 and two with 0.93."""


def of_task(task: Task, *, seed: int, progress: Progress) -> Scores:
    """Fit the default baseline of a task, and draw from the surprises of its own inputs.

    Nothing is drawn twice while there is more to draw.
    """
    data, plan = Table(task.trusted), FitPlan(name="streams", seed=seed)
    rows = split(len(data), plan)
    trained = train_dictionaries(
        task.model,
        task.sites,
        data,
        DictionaryPlan(seed=seed),
        rows=rows.fitting,
        progress=progress,
    )
    decomposition = Joined(trained.dictionaries)
    baseline = fit(
        task.model, decomposition, data, plan, created=datetime.now(UTC), progress=progress
    )
    scorer = Scorer(task.model, decomposition, baseline.parts, plan.context)
    return Scores.of(
        task.name,
        _from(_reference(baseline)),
        _from(_surprises(scorer, baseline, task.test_normal)),
        _from(_surprises(scorer, baseline, task.test_anomalous)),
    )


def _reference(baseline: Baseline) -> Float64[np.ndarray, " reference"]:
    return baseline.reference.numpy()


def _surprises(scorer: Scorer, baseline: Baseline, inputs: Inputs) -> Float64[np.ndarray, " input"]:
    weighed = [
        baseline.weighing.weigh(scorer.score(batch).ledger).surprise
        for batch in batches(inputs, size=_BATCH)
    ]
    return torch.cat(weighed).numpy()


def _from(pool: Float64[np.ndarray, " pool"]) -> Draw:
    def draw(chance: np.random.Generator, count: int) -> Float64[np.ndarray, " input"]:
        return chance.choice(pool, count, replace=count > pool.size)

    return draw
