"""A fit that tests kill, what it says, and whether two baselines are the same."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jaxtyping import Int64
from torch import Tensor

from mad.baseline import format as bundle_format
from mad.baseline.bundle import Baseline
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.fit import FitPlan, Unfinished, fit
from mad.types import Dataset, Inputs
from tests.worlds import CREATED, Rows, quiet, tiny_world

PLAN = FitPlan(
    name="tiny",
    false_alarm_rate=0.05,
    batch_size=32,
    magnitudes=True,
    residual_by_context=True,
)
STAGES = {"fitting codes": 360, "weighing parts": 90, "calibrating": 150}


class KilledError(Exception):
    """Stands for a kill: nothing of ours catches it."""


@dataclass
class Watcher:
    """Hears how far a fit is, and may end it there."""

    dies_at: tuple[str, int] = ("", 0)
    said: list[tuple[str, int, str]] = field(default_factory=list)

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        assert 0 <= done <= total
        self.said.append((stage, done, note))
        if self.dies_at == (stage, done):
            raise KilledError

    @property
    def beginnings(self) -> dict[str, tuple[int, str]]:
        """Where each stage began, and what was said."""
        return {stage: (done, note) for stage, done, note in reversed(self.said)}


@dataclass
class Watched:
    """Rows that remember which of them were read."""

    rows: Rows
    read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        self.read += rows.tolist()
        return self.rows.take(rows)


@dataclass(frozen=True)
class Fit:
    """Everything that a fit depends on."""

    model: MonitoredModel
    decomposition: Decomposition
    data: Dataset
    plan: FitPlan = PLAN

    def run(self, watcher: Watcher | None = None, place: Unfinished | None = None) -> Baseline:
        return fit(
            self.model,
            self.decomposition,
            self.data,
            self.plan,
            created=CREATED,
            progress=watcher or quiet,
            unfinished=place,
        )

    def killed(self, place: Unfinished, *, at: tuple[str, int]) -> None:
        with pytest.raises(KilledError):
            self.run(Watcher(at), place)


def always(directory: Path) -> Unfinished:
    """Keep a checkpoint after every batch: by a clock that stands still, writing takes no time."""
    return Unfinished(directory / "unfinished", every_s=0.0, clock=lambda: 0.0)


def same(one: Baseline, other: Baseline) -> bool:
    """Compare every bit of two bundles."""
    return bundle_format.encode(one) == bundle_format.encode(other)


def tiny_fit() -> Fit:
    """Train dictionaries, and return a fit of six hundred inputs with them."""
    world = tiny_world(PLAN, sites=("3",))
    return Fit(world.model, world.decomposition, world.trusted)
