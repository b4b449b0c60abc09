"""A code that copies one of the kept trusted sets, and the trusted sets most like an input's."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.codes.sets.independent import krichevsky_trofimov
from mad.codes.sets.samples import as_activity, chosen, evenly, is_active, shared_evenly
from mad.codes.statistics import KeptSets, SetCounts
from mad.types import Activity, Bits, Context, SetNeighbour

MAX_KEPT = 3_000
"""Trusted sets to copy from: scoring reads the members of those that share a component."""

MIN_KEPT = 2
"""With fewer there is no other to copy a kept set from, so how well copying works is unknown."""

COPIED = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
"""Shares of components copied that are tried; the shortest code of held-out sets wins."""

HELD_OUT = 300

_CHUNK = 64


@final
@dataclass(frozen=True)
class NearestSetsCode:
    """One of the kept sets, all equally likely, with every component either copied or redrawn.

    ``P(A)`` is the mean over kept sets ``B`` of ``prod_j [c 1(a_j = b_j) + (1 - c) P_j(a_j)]``,
    where ``c`` is ``copied`` and ``P_j`` the independent code's coin. ``rows`` says which trusted
    input each kept set is; ``usual`` is the mean contributions of kept sets left to the others.
    """

    rows: Int64[Tensor, " kept"]
    offsets: Int64[Tensor, " kept_and_end"]
    components: Int64[Tensor, " entry"]
    rate: Float64[Tensor, " component"]
    copied: float
    usual: Float64[Tensor, " component"]

    @staticmethod
    def fit(kept: KeptSets, counts: SetCounts) -> "NearestSetsCode":
        """Keep at most MAX_KEPT sets; copy as much as describes each best by the others.

        Needs at least MIN_KEPT.
        """
        assert len(kept) >= MIN_KEPT
        centres = evenly(kept, most=MAX_KEPT)
        rate = krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum())
        among = (centres.rows, centres.offsets, centres.components)
        tried = [NearestSetsCode(*among, rate, copied, torch.zeros_like(rate)) for copied in COPIED]
        held_out = torch.linspace(0, len(centres) - 1, min(HELD_OUT, len(centres))).long()
        best = min(tried, key=lambda code: float(code._left_out_bits(held_out).mean()))
        return replace(best, usual=best._left_out_mean(held_out))

    def lengths(self, activity: Activity, context: Context) -> Bits:  # noqa: ARG002  # Code
        """Return ``-log2`` of the mean over kept sets, a few inputs at a time."""
        if not len(activity):
            return torch.empty(0, dtype=torch.float64)
        parts = torch.arange(len(activity)).split(_CHUNK)
        return torch.cat([_mean_bits(self._copies(activity.take(part))) for part in parts])

    def contributions(
        self,
        activity: Activity,
        context: Context,  # noqa: ARG002  # Code
    ) -> Float64[Tensor, "batch component"]:
        """Charge each component its mean bits over the kept sets that explain the input.

        Kept set ``B`` counts with its share ``r_B`` of the probability. What naming those sets
        costs, the divergence of ``r`` from equal shares, is charged evenly to active components.
        """
        return self._charged(self._copies(activity), activity)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean contributions of kept sets; they do not depend on the context."""
        return self.usual.expand(context.numel(), -1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the same rates for every context."""
        return self.rate.expand(context.numel(), -1)

    def nearest(self, activity: Activity, *, count: int) -> tuple[SetNeighbour, ...]:
        """Return the kept sets nearest to the first input's by Jaccard distance, ties by row."""
        own = activity.components[: int(activity.offsets[1])]
        overlap = torch.zeros(self.rows.numel(), dtype=torch.float64)
        overlap.index_add_(0, self._owners, torch.isin(self.components, own).double())
        union = self.offsets.diff() + own.numel() - overlap
        distance = torch.where(union > 0, 1 - overlap / union, 0.0)
        places = distance.argsort(stable=True)[:count]
        return tuple(self._neighbour(int(place), float(distance[place]), own) for place in places)

    def _neighbour(
        self, place: int, distance: float, own: Int64[Tensor, " active"]
    ) -> SetNeighbour:
        start, stop = self.offsets[place : place + 2].tolist()
        mine, theirs = set(own.tolist()), set(self.components[start:stop].tolist())
        return SetNeighbour(
            row=int(self.rows[place]),
            distance=distance,
            shared=tuple(sorted(mine & theirs)),
            missing=tuple(sorted(theirs - mine)),
            extra=tuple(sorted(mine - theirs)),
        )

    def _copies(self, activity: Activity) -> Float64[Tensor, "batch kept"]:
        """Return ``log2`` of the chance of each input as a copy of each kept set."""
        tables, kept = self._tables, self.rows.numel()
        start, stop = tables.starts[activity.components], tables.starts[activity.components + 1]
        holders = stop - start
        entry = torch.repeat_interleave(torch.arange(holders.numel()), holders)
        nth = torch.arange(entry.numel()) - (holders.cumsum(dim=0) - holders)[entry]
        target = activity.rows[entry] * kept + tables.holders[start[entry] + nth]
        both = torch.zeros(len(activity) * kept, dtype=torch.float64)
        both.index_add_(0, target, tables.both[activity.components[entry]])
        drawn = torch.zeros(len(activity), dtype=torch.float64)
        drawn.index_add_(0, activity.rows, tables.drawn[activity.components])
        return tables.neither + drawn.unsqueeze(1) + both.reshape(-1, kept)

    def _charged(
        self, copies: Float64[Tensor, "batch kept"], activity: Activity
    ) -> Float64[Tensor, "batch component"]:
        active = is_active(activity)
        share = torch.softmax(copies * math.log(2), dim=1)
        held = torch.zeros(active.shape, dtype=torch.float64)
        held.index_add_(1, self.components, share[:, self._owners])
        copy, draw = self._chances
        with_it = -torch.where(active, copy, 1 - copy).log2()
        without = -torch.where(active, draw, 1 - draw).log2()
        own = torch.lerp(without, with_it, held)
        return own + shared_evenly(_mean_bits(copies) - own.sum(dim=1), active)

    def _left_out(
        self, places: Int64[Tensor, " chosen"]
    ) -> tuple[Activity, Float64[Tensor, "chosen kept"]]:
        """Return kept sets, and the chance of each as a copy of any but itself."""
        own = KeptSets(self.rows, self.rows, self.offsets, self.components, self.rate.numel())
        activity = as_activity(chosen(own, places))
        return activity, self._copies(activity).scatter(1, places.unsqueeze(1), -torch.inf)

    def _left_out_bits(self, places: Int64[Tensor, " chosen"]) -> Bits:
        parts = [self._left_out(part)[1] for part in places.split(_CHUNK)]
        return torch.cat([_mean_bits(copies) for copies in parts])

    def _left_out_mean(self, places: Int64[Tensor, " chosen"]) -> Float64[Tensor, " component"]:
        total = torch.zeros_like(self.rate)
        for part in places.split(_CHUNK):
            activity, copies = self._left_out(part)
            total += self._charged(copies, activity).sum(dim=0)
        return total / places.numel()

    @property
    def _chances(self) -> tuple[Float64[Tensor, " component"], Float64[Tensor, " component"]]:
        """The chance of each component, where the copied set has it and where it has not."""
        drawn = (1 - self.copied) * self.rate
        return self.copied + drawn, drawn

    @property
    def _owners(self) -> Int64[Tensor, " entry"]:
        return torch.repeat_interleave(torch.arange(self.rows.numel()), self.offsets.diff())

    @cached_property
    def _tables(self) -> "_Tables":
        copy, draw = self._chances
        drawn = (draw / (1 - draw)).log2()
        lost = ((1 - copy) / (1 - draw)).log2()
        neither = (torch.log1p(-draw).sum() / math.log(2)).repeat(self.rows.numel())
        neither.index_add_(0, self._owners, lost[self.components])
        order = self.components.argsort(stable=True)
        starts = torch.searchsorted(self.components[order], torch.arange(self.rate.numel() + 1))
        both = (copy / (1 - copy)).log2() - drawn
        return _Tables(starts, self._owners[order], neither, drawn, both)


@final
@dataclass(frozen=True)
class _Tables:
    """Kept sets by component, and the logarithms a copy's chance is made of.

    The kept sets that hold component ``j`` are ``holders[starts[j]:starts[j + 1]]``. ``neither``
    is the chance of the empty set as a copy of each; a component active in the input only adds
    ``drawn``, one active in both ``drawn + both``.
    """

    starts: Int64[Tensor, " starts"]
    holders: Int64[Tensor, " entry"]
    neither: Float64[Tensor, " kept"]
    drawn: Float64[Tensor, " component"]
    both: Float64[Tensor, " component"]


def _mean_bits(copies: Float64[Tensor, "batch kept"]) -> Bits:
    """Return ``-log2`` of the mean over the kept sets that may be copied at all."""
    possible: Bool[Tensor, "batch kept"] = copies > -torch.inf
    total = torch.logsumexp(copies * math.log(2), dim=1) / math.log(2)
    return possible.sum(dim=1).double().log2() - total
