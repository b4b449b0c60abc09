"""A model, inputs and dictionaries of known quality, to examine."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mad.arrays import Table
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.topk import topk_dictionary
from mad.report.dictionary import Asked, DictionaryReport, Source, examine
from tests.worlds import quiet

WIDTH, COUNT, LABELS = 12, 900, 4


def rotation(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    turned: Tensor = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
    return turned


def sparse(count: int = COUNT) -> Tensor:
    """Return sums of two of 12 hidden directions at a time."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(count, WIDTH, generator=generator).topk(2, dim=1).indices
    strength = 1 + torch.rand(count, 2, generator=generator)
    return torch.zeros(count, WIDTH).scatter(1, chosen, strength) @ rotation(0)


def dictionary(*, k: int = 2, gain: float = 1.0, site: str = "0") -> Dictionary:
    """Return the dictionary of the hidden directions; with less gain it shrinks what it says."""
    hidden = rotation(0)
    return topk_dictionary(
        site=site,
        pooling="auto",
        k=k,
        encoder=gain * hidden.T.contiguous(),
        bias=torch.zeros(WIDTH),
        decoder=hidden,
        centre=torch.zeros(WIDTH),
        scale=torch.tensor(1.0),
    )


def silent(mean: Tensor) -> Dictionary:
    """Return the dictionary that says the mean of everything."""
    own = dictionary(gain=0.0)
    frame = Frame(mean, torch.tensor(1.0))
    return replace(own, source=frame, target=frame)


@dataclass
class World:
    """A model that reads labels off its first two sites, and inputs for it."""

    x: Tensor
    model: MonitoredModel

    @staticmethod
    def of(x: Tensor) -> "World":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            answer = nn.Linear(WIDTH, LABELS)
            module = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, WIDTH), answer)
        with torch.no_grad():
            answer.weight.mul_(4)
        return World(x, MonitoredModel.of(module, name="three layers", inputs=["x"]))

    def report(self, decomposition: Decomposition, asked: Asked | None = None) -> DictionaryReport:
        every = torch.arange(len(self.x))
        rows = every[every % 3 > 0], every[every % 3 == 0]
        source = Source(self.model, decomposition, Table({"x": self.x}), *rows)
        return examine(source, asked or Asked(), progress=quiet)

    @property
    def held_out(self) -> Tensor:
        return self.x[torch.arange(len(self.x)) % 3 == 0]

    def answers(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            answers: Tensor = self.model.module(x)
        return answers


WORLD = World.of(sparse())
