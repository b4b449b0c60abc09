"""A world whose mechanisms are known by number, to see whether explanations name them.

A model writes features into one site along known directions and reads its answer, one of eight
labels, off the site. Trusted inputs use the features of one context at a time, a context being the
label's own. The dictionary at the site knows the directions of all features but some hidden ones.
Planted anomalies, each of several planted things beside the usual ones, are
``unfamiliar``: features that the dictionary knows and trusted inputs never use;
``combined``: features of another context, each common by itself;
``hidden``: a direction that no component has, on a few coordinates of the site.
The first and the last make the model answer ``TARGET``, whatever the context; the second does not
change its answer.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.topk import topk_dictionary
from mad.fit import FitPlan, fit
from mad.monitor import Monitor
from mad.types import MECHANISM_TERMS, Term
from tests.worlds import CREATED, Rows, quiet

Kind: TypeAlias = Literal["unfamiliar", "combined", "hidden"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SITE = "write"
CONTEXTS, PER_CONTEXT, STEP = 8, 12, 6
USUAL = CONTEXTS * STEP
"""Features that trusted inputs use: each belongs to two contexts."""
UNFAMILIAR, HIDDEN = 16, 4
KNOWN = USUAL + UNFAMILIAR
COORDINATES = 96
OWN = 80
"""Known features are written to the first coordinates, hidden ones to the others."""
SUPPORT = 8
USED, ADDED = (7, 11), 6
"""How many features of its context a trusted input uses, and how many an anomaly adds."""
ASTRAY = 0.3
"""Share of trusted inputs that use one feature of any context besides."""
NOISE = 0.07
TARGET = 0


@final
@dataclass(frozen=True)
class Planted:
    """Anomalies, the contexts they hide in, and what is planted in each.

    These are indices of components, which several terms may name, or of the residual.
    """

    x: Tensor
    context: Tensor
    terms: frozenset[Term]
    indices: tuple[frozenset[int], ...]


def directions() -> Tensor:
    """Return what each feature writes, known ones first: nearly orthogonal, of length one."""
    generator = torch.Generator().manual_seed(0)
    square, _ = torch.linalg.qr(torch.randn(OWN, OWN, generator=generator))
    known = square[:KNOWN] + 0.005 * torch.randn(KNOWN, OWN, generator=generator)
    hidden = torch.zeros(HIDDEN, COORDINATES)
    for number in range(HIDDEN):
        sign = torch.randint(2, (SUPPORT,), generator=generator) * 2.0 - 1
        hidden[number, support(number)] = sign
    padded = functional.pad(known, (0, COORDINATES - OWN))
    return functional.normalize(torch.cat([padded, hidden]), dim=1)


def support(number: int) -> Tensor:
    """Return the coordinates that a hidden feature writes to; neighbours share half."""
    return OWN + (SUPPORT // 2 * number + torch.arange(SUPPORT)) % (COORDINATES - OWN)


def features_of(context: int) -> Tensor:
    """Return the features of a context; it shares half with the next."""
    return (STEP * context + torch.arange(PER_CONTEXT)) % USUAL


class Writer(nn.Module):
    """Writes features and noise into the site ``write``, and reads labels off it."""

    def __init__(self) -> None:
        super().__init__()
        self.write = nn.Linear(KNOWN + HIDDEN + COORDINATES, COORDINATES, bias=False)
        self.read = nn.Linear(COORDINATES, CONTEXTS, bias=False)
        written = directions()
        votes = torch.zeros(CONTEXTS, KNOWN + HIDDEN)
        for context in range(CONTEXTS):
            votes[context, features_of(context)] = 1.0
        votes[TARGET, USUAL:KNOWN] = 3.0
        votes[TARGET, KNOWN:] = 10.0
        with torch.no_grad():
            self.write.weight.copy_(torch.cat([written, NOISE * torch.eye(COORDINATES)]).T)
            self.read.weight.copy_(votes @ torch.linalg.pinv(written).T)

    def forward(self, x: Tensor) -> Tensor:
        labels: Tensor = self.read(self.write(x))
        return labels


def known_dictionary(k: int = 20) -> Dictionary:
    """Return a dictionary whose component is the known feature of the same number."""
    known = directions()[:KNOWN]
    return topk_dictionary(
        site=SITE,
        pooling="auto",
        k=k,
        encoder=known.T.contiguous(),
        bias=torch.full((KNOWN,), -0.35),  # five standard deviations of noise
        decoder=known,
        centre=torch.zeros(COORDINATES),
        scale=torch.tensor(1.0),
    )


def trusted(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs that use some features of one context each, and the contexts."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(count, KNOWN + HIDDEN + COORDINATES)
    x[:, KNOWN + HIDDEN :] = torch.randn(count, COORDINATES, generator=generator)
    context = torch.randint(CONTEXTS, (count,), generator=generator)
    used = torch.randint(*USED, (count,), generator=generator).tolist()
    astray = (torch.rand(count, generator=generator) < ASTRAY).long().tolist()
    for row in range(count):
        among = features_of(int(context[row]))
        _use(x[row], torch.arange(USUAL), astray[row], generator, strength=1.5)
        _use(x[row], among, used[row], generator, strength=2.0)
    return x, context


def planted(kind: Kind, count: int, *, seed: int) -> Planted:
    """Plant at least six things in each of some trusted inputs."""
    x, context = trusted(count, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    indices = [
        frozenset(_plant(kind, x[row], int(context[row]), generator).tolist())
        for row in range(count)
    ]
    terms: frozenset[Term] = frozenset({"residual"}) if kind == "hidden" else MECHANISM_TERMS
    return Planted(x, context, terms, tuple(indices))


def _plant(kind: Kind, x: Tensor, context: int, generator: torch.Generator) -> Tensor:
    """Change one input, and return the components or coordinates that the change uses."""
    match kind:
        case "unfamiliar":
            return _use(x, torch.arange(USUAL, KNOWN), ADDED, generator, strength=1.5)
        case "combined":
            # Opposite contexts share no feature.
            opposite = (context + CONTEXTS // 2) % CONTEXTS
            return _use(x, features_of(opposite), ADDED, generator, strength=1.5)
        case "hidden":
            number = int(torch.randint(HIDDEN, (1,), generator=generator))
            x[KNOWN + number] = 3.0
            return support(number)


def _use(
    x: Tensor, among: Tensor, count: int, generator: torch.Generator, *, strength: float
) -> Tensor:
    chosen = among[torch.randperm(len(among), generator=generator)[:count]]
    x[chosen] = strength + 0.5 * torch.rand(count, generator=generator)
    return chosen


def planted_monitor(plan: FitPlan, *, count: int = 4_000) -> Monitor:
    """Fit a baseline as any other is fitted; takes about a second."""
    model = MonitoredModel.of(Writer(), name="planted", inputs=["x"])
    dictionary = known_dictionary()
    rows = Rows(trusted(count, seed=1)[0])
    baseline = fit(model, dictionary, rows, plan, created=CREATED, progress=quiet)
    return Monitor.bind(model, dictionary, baseline)
