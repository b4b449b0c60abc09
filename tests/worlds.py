"""A small trained world that tests share: a model, trusted data, dictionaries and a baseline."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from mad.baseline.bundle import Baseline
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.joined import Joined
from mad.fit import FitPlan, fit, split, train_dictionaries
from mad.monitor import Monitor
from mad.types import Inputs

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = FitPlan(name="tiny", false_alarm_rate=0.05)
WIDTH = 8


@dataclass(frozen=True)
class Rows:
    """An in-memory dataset of one input called ``x``."""

    x: Tensor

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.x.shape[0]

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs."""
        return {"x": self.x[rows]}


@dataclass(frozen=True)
class World:
    """What a deployment has."""

    model: MonitoredModel
    decomposition: Joined
    trusted: Rows
    baseline: Baseline

    @property
    def monitor(self) -> Monitor:
        """The baseline bound to its model."""
        return Monitor.bind(self.model, self.decomposition, self.baseline)


def quiet(stage: str, *, done: int, total: int, note: str = "") -> None:
    """Report no progress."""


def tiny_module(seed: int = 0) -> nn.Module:
    """Return a small network with modules named ``0`` to ``4``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
        )


class Attends(nn.Module):
    """One causal head of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        likeness = self.query(x) @ self.key(x).transpose(1, 2)
        later = ~torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        written: Tensor = likeness.masked_fill(later, -torch.inf).softmax(dim=2) @ self.value(x)
        return written


class Bilinear(nn.Module):
    """Products of two linear layers, and a linear layer of these."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(6, 9), nn.Linear(6, 9), nn.Linear(9, 6)

    def forward(self, x: Tensor) -> Tensor:
        written: Tensor = self.last(self.one(x) * self.two(x))
        return written


class Layers(nn.Module):
    """Reads an input as a sequence of pairs, through ``attention`` and then ``bilinear``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(2, 6), Attends()
        self.bilinear, self.head = Bilinear(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x.unflatten(1, (-1, 2)))
        hidden = hidden + self.attention(hidden)
        hidden = hidden + self.bilinear(hidden)
        scores: Tensor = self.head(hidden[:, -1])
        return scores


def layered_module() -> nn.Module:
    """Return a small network with an attention layer and a bilinear one, on inputs of the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Layers()


def ordinary(count: int, *, seed: int) -> Tensor:
    """Return inputs from three clusters."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.eye(3, WIDTH)
    which = torch.randint(3, (count,), generator=generator)
    return centres[which] + 0.3 * torch.randn(count, WIDTH, generator=generator)


def strange(count: int, *, seed: int) -> Tensor:
    """Return inputs far from every cluster."""
    generator = torch.Generator().manual_seed(seed)
    return -3 + 0.3 * torch.randn(count, WIDTH, generator=generator)


def tiny_world(plan: FitPlan = PLAN, *, sites: tuple[str, ...] = ("1", "3")) -> World:
    """Return the world of a plan, which all tests of a process share; none may change it."""
    return _shared(plan, sites)


def own_world(plan: FitPlan = PLAN, *, sites: tuple[str, ...] = ("1", "3")) -> World:
    """Train dictionaries and fit a baseline; takes about a second."""
    model = MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])
    trusted = Rows(ordinary(600, seed=1))
    dictionary_plan = DictionaryPlan(width=32, k=4, steps=60, batch_size=128)
    rows = split(len(trusted), plan).fitting
    trained = train_dictionaries(model, sites, trusted, dictionary_plan, rows=rows, progress=quiet)
    decomposition = Joined(trained.dictionaries)
    baseline = fit(model, decomposition, trusted, plan, created=CREATED, progress=quiet)
    return World(model, decomposition, trusted, baseline)


@cache
def _shared(plan: FitPlan, sites: tuple[str, ...]) -> World:
    return own_world(plan, sites=sites)


def numbered(baseline: Baseline, version: int) -> Baseline:
    """Return the baseline as a store would number it."""
    return replace(baseline, manifest=replace(baseline.manifest, version=version))
