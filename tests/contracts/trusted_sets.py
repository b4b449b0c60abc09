"""Trusted active sets that tests of codes share: eight components, three contexts."""

import itertools

import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from mad.codes.base import Code
from mad.codes.statistics import KeptSets, SetCounts
from tests.contracts.test_codes import activity_of

COMPONENTS = 8
INPUTS = 300
NEVER_SEEN = 99
EVERY_CONTEXT = [0, 1, 2, NEVER_SEEN, -1]
EVERY_SET = activity_of(torch.tensor(list(itertools.product([False, True], repeat=COMPONENTS))))


def kept(sets: Tensor, context: Tensor, *, first_row: int = 0) -> KeptSets:
    """Keep every set."""
    rows = torch.arange(first_row, first_row + len(sets))
    everyone = torch.ones(len(sets), dtype=torch.bool)
    return KeptSets.of(activity_of(sets), context, rows=rows, keep=everyone)


def counts(sets: Tensor, context: Tensor) -> SetCounts:
    """Count every set."""
    return SetCounts.of(activity_of(sets), context)


def linked(inputs: int, generator: torch.Generator) -> Tensor:
    """Draw sets whose components 4, 5, 6 nearly repeat 0, 1, 2; nobody uses 7."""
    free = torch.rand(inputs, 4, generator=generator) < torch.tensor([0.4, 0.3, 0.5, 0.2])
    flipped = torch.rand(inputs, 3, generator=generator) < 0.1
    return torch.cat([free, free[:, :3] ^ flipped, torch.zeros(inputs, 1).bool()], dim=1)


GENERATOR = torch.Generator().manual_seed(0)
SETS = linked(INPUTS, GENERATOR)
CONTEXT = torch.randint(3, (INPUTS,), generator=GENERATOR)
TRUSTED = activity_of(SETS)
KEPT = kept(SETS, CONTEXT)
COUNTS = counts(SETS, CONTEXT)


def everywhere(context: int, inputs: int = len(EVERY_SET)) -> Tensor:
    """Return one context for each input."""
    return torch.full((inputs,), context)


def groups(inputs: int, generator: torch.Generator, *, mixed: bool) -> Tensor:
    """Draw sets of four to eight of forty components: of one group of ten, or, mixed, of any."""
    group = torch.randint(4, (inputs,), generator=generator)
    chance = torch.rand(inputs, 40, generator=generator)
    if not mixed:
        chance += (torch.arange(40) // 10 == group.unsqueeze(1)).float()
    size = torch.randint(4, 9, (inputs, 1), generator=generator)
    return chance.argsort(dim=1, descending=True).argsort(dim=1) < size


def auroc(code: Code, anomalous: Tensor, usual: Tensor) -> float:
    """Return the chance that an anomalous set costs more than a usual one."""
    higher, lower = (
        code.lengths(activity_of(sets), everywhere(0, len(sets))).numpy()
        for sets in (anomalous, usual)
    )
    return float(mannwhitneyu(higher, lower).statistic) / (len(higher) * len(lower))
