"""A code that treats components as coins, each looking at one other: a Chow-Liu tree."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.codes.sets.independent import entropy, krichevsky_trofimov, silence_and_correction
from mad.codes.sets.samples import is_active, most_used, pair_counts
from mad.codes.statistics import KeptSets, PairCounts, SetCounts
from mad.types import Activity, Bits, Context

MAX_IN_TREE = 1_500
"""Only the most used components look at others: pairs grow with the square."""

SELDOM = 3
"""A component active in no more trusted inputs than this says nothing about another."""


@final
@dataclass(frozen=True)
class TreeCode:
    """Each component is a coin whose bias depends on whether its parent is active.

    ``parent`` is -1 for a component that looks at no other. ``given_active`` and ``given_silent``
    are a component's rates beside an active and a silent parent; without a parent both are its
    own rate. The links are those of the likeliest forest (Chow and Liu 1968) among those that save
    more bits over the kept sets than half a logarithm of their number, which is what stating one
    more rate costs (Suzuki 1993).
    """

    parent: Int64[Tensor, " component"]
    rate: Float64[Tensor, " component"]
    given_silent: Float64[Tensor, " component"]
    given_active: Float64[Tensor, " component"]

    @staticmethod
    def fit(kept: KeptSets, counts: SetCounts) -> "TreeCode":
        """Take rates from all trusted inputs, and links and rates beside a parent from the kept.

        A rate beside a parent leans on the rate over all with the weight of one input.
        """
        frequent = _looking(counts)
        return TreeCode._of(counts, frequent, pair_counts(kept, frequent), len(kept))

    @staticmethod
    def counted(pairs: PairCounts) -> "TreeCode":
        """Take everything from counts of pairs: the code that the sets they count would give."""
        counts = pairs.alone
        frequent = _looking(counts)
        return TreeCode._of(counts, frequent, pairs.among(frequent), pairs.inputs)

    @staticmethod
    def _of(
        counts: SetCounts,
        frequent: Int64[Tensor, " frequent"],
        both: Float64[Tensor, "frequent frequent"],
        inputs: int,
    ) -> "TreeCode":
        total = counts.active.sum(dim=0)
        rate = krichevsky_trofimov(total, counts.inputs.sum())
        above = _forest(_saved_bits(both, inputs))
        child = (above >= 0).nonzero().squeeze(1)
        above, own = above[child], frequent[child]
        parent = torch.full_like(total, -1)
        parent[own] = frequent[above]
        together, alone = both[above, child], both[above, above]
        rest = both[child, child] - together
        given_silent, given_active = rate.clone(), rate.clone()
        given_active[own] = (together + rate[own]) / (alone + 1)
        given_silent[own] = (rest + rate[own]) / (inputs - alone + 1)
        return TreeCode(parent, rate, given_silent, given_active)

    def mean_bits(self, pairs: PairCounts) -> float:
        """Return the mean length of the sets that were counted, which need not be at hand."""
        tables, own = self._tables, pairs.both.diagonal().double()
        child = (self.parent >= 0).nonzero().squeeze(1)
        together = pairs.both[child, self.parent[child]].double()
        bits = (own * tables.activity).sum() + (together * tables.company[child]).sum()
        return float(tables.silence + bits / max(pairs.inputs, 1))

    def lengths(self, activity: Activity, context: Context) -> Bits:  # noqa: ARG002  # Code
        """Charge silence for every component, then correct the active ones and their children."""
        tables = self._tables
        correction = tables.activity[activity.components]
        correction += self._beside_parent(activity) * tables.company[activity.components]
        lengths = tables.silence.repeat(len(activity))
        return lengths.index_add_(0, activity.rows, correction)

    def contributions(
        self,
        activity: Activity,
        context: Context,  # noqa: ARG002  # Code
    ) -> Float64[Tensor, "batch component"]:
        """Charge each component its own bits, active or silent, beside its parent as it is."""
        active = is_active(activity)
        beside = active[:, self.parent.clamp_min(0)] & (self.parent >= 0)
        rates = torch.where(beside, self.given_active, self.given_silent)
        silence, correction = silence_and_correction(rates)
        return silence + active * correction

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean entropy of each component's coin, over what its parent does."""
        parents = self._usage[self.parent.clamp_min(0)]
        silent, beside = entropy(torch.stack([self.given_silent, self.given_active]))
        return torch.lerp(silent, beside, parents).expand(context.numel(), -1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the same rates for every context."""
        return self.rate.expand(context.numel(), -1)

    def _beside_parent(self, activity: Activity) -> Bool[Tensor, " entry"]:
        """Return which active components have an active parent."""
        base = activity.rows * activity.num_components
        parent = self.parent[activity.components]
        sought = torch.where(parent >= 0, base + parent, -1)
        return torch.isin(sought, base + activity.components)

    @cached_property
    def _tables(self) -> "_Tables":
        silent, own = silence_and_correction(self.given_silent)
        beside, company = silence_and_correction(self.given_active)
        child = (self.parent >= 0).nonzero().squeeze(1)
        activity = own.index_add(0, self.parent[child], (beside - silent)[child])
        return _Tables(silent.sum(), activity, company - own)

    @cached_property
    def _usage(self) -> Float64[Tensor, " component"]:
        """The rate of each component under the code itself, parents before children."""
        known = self.parent < 0
        usage = self.rate.clone()
        while not known.all():
            ready = ~known & known[self.parent.clamp_min(0)]
            above = usage[self.parent[ready]]
            usage[ready] = torch.lerp(self.given_silent[ready], self.given_active[ready], above)
            known |= ready
        return usage


@final
@dataclass(frozen=True)
class _Tables:
    """The bits that lengths are sums of.

    Those of the empty set; what an active component adds beside a silent parent, with what its
    silent children then cost; and what its own bits change by beside an active parent.
    """

    silence: Float64[Tensor, ""]
    activity: Float64[Tensor, " component"]
    company: Float64[Tensor, " component"]


def _looking(counts: SetCounts) -> Int64[Tensor, " frequent"]:
    """Return the components that look at others, the most used first."""
    return most_used(counts.active.sum(dim=0), most=MAX_IN_TREE, above=SELDOM)


def _saved_bits(
    both: Float64[Tensor, "frequent frequent"], inputs: int
) -> Float64[Tensor, "frequent frequent"]:
    """Return the bits that each link saves over the kept sets, less those it takes to state it."""
    own = both.diagonal()
    one, other = own.unsqueeze(1), own.unsqueeze(0)
    cells = (both, one - both, other - both, inputs - one - other + both)
    joint = sum((_times_log(cell) for cell in cells), start=torch.zeros_like(both))
    apart = _times_log(own) + _times_log(inputs - own)
    total = _times_log(both.new_tensor(float(inputs)))
    return joint - apart.unsqueeze(1) - apart.unsqueeze(0) + total - 0.5 * math.log2(max(inputs, 1))


def _times_log(count: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    nats: Tensor = torch.special.xlogy(count, count)
    return nats / math.log(2)


def _forest(gain: Float64[Tensor, "frequent frequent"]) -> Int64[Tensor, " frequent"]:
    """Return each node's parent in the forest of largest total gain, -1 for roots (Prim 1957)."""
    size = gain.shape[0]
    best = torch.zeros(size, dtype=torch.float64)
    nearest, parent = torch.full((size,), -1), torch.full((size,), -1)
    waiting = torch.ones(size, dtype=torch.bool)
    for _ in range(size):
        node = int(best.masked_fill(~waiting, -1.0).argmax())
        parent[node], waiting[node] = nearest[node], False
        better = gain[node] > best
        best = torch.where(better, gain[node], best)
        nearest = torch.where(better, node, nearest)
    return parent
