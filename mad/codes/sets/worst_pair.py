"""A code that looks only at the two active components least often seen together."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.sets.independent import krichevsky_trofimov
from mad.codes.sets.samples import mean_contributions, most_used, pair_counts
from mad.codes.statistics import KeptSets, PairCounts, SetCounts
from mad.types import Activity, Bits, Context

MAX_IN_PAIRS = 1_000
"""Only pairs of the most used components count: their number grows with the square. A pair of
seldom used ones is not expected together in trusted data, so its absence would say nothing."""

_CELLS = 1 << 22


@final
@dataclass(frozen=True)
class WorstPairCode:
    """One bit for every component, and beyond that the surprise of the worst active pair.

    The surprise of components ``i`` and ``j`` is ``-log2 (p_ij / (p_i p_j))``, how far below
    independence trusted data hold both, with Krichevsky-Trofimov rates; no pair has less than
    zero, and a set with fewer than two of ``frequent`` has none.

    Why this form. A mixture over pairs is a code but as cheap as its cheapest pair, so one bad
    pair among good ones costs nothing; the *largest* of several code lengths is a code too, for it
    gives no set a greater probability than any one of them does. The others here are the code of
    all sets equally, one bit a component, because what else varies hides the pair: over
    independent coins or the size of the set, sets of varying size lost an AUROC of 0.998 down to
    0.64 and 0.62 in a world of twenty contexts of fifteen components. The price is length: the
    Kraft sum is the mean of ``2 ** -surprise`` over all sets, at most one, and this is for telling
    combinations apart, not for describing sets shortly.
    """

    frequent: Int64[Tensor, " frequent"]
    surprise: Float32[Tensor, "frequent frequent"]
    rate: Float64[Tensor, " component"]
    usual: Float64[Tensor, " component"]

    @staticmethod
    def fit(kept: KeptSets, counts: SetCounts) -> "WorstPairCode":
        """Take usage from all trusted inputs to choose components, and pairs from the kept sets."""
        frequent = most_used(counts.active.sum(dim=0), most=MAX_IN_PAIRS, above=0)
        unfinished = WorstPairCode._of(counts, frequent, pair_counts(kept, frequent), len(kept))
        return replace(unfinished, usual=mean_contributions(unfinished, kept))

    @staticmethod
    def counted(pairs: PairCounts) -> "WorstPairCode":
        """Take everything from counts of pairs: lengths are those of the sets that they count.

        What a component usually is charged they do not tell, as which of its pairs is the worst of
        a set depends on the others; the sum over all pairs stands in for it, which is no less.
        """
        counts = pairs.alone
        frequent = most_used(counts.active.sum(dim=0), most=MAX_IN_PAIRS, above=0)
        both = pairs.among(frequent)
        unfinished = WorstPairCode._of(counts, frequent, both, pairs.inputs)
        halves = (both * unfinished.surprise.double()).sum(dim=1) / 2 / max(pairs.inputs, 1)
        return replace(unfinished, usual=unfinished.usual.index_add(0, frequent, halves))

    @staticmethod
    def _of(
        counts: SetCounts,
        frequent: Int64[Tensor, " frequent"],
        both: Float64[Tensor, "frequent frequent"],
        inputs: int,
    ) -> "WorstPairCode":
        rate = krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum())
        joint = (both + 0.5).log2() - (torch.tensor(inputs).double() + 1).log2()
        own = joint.diagonal()
        surprise = (own.unsqueeze(1) + own.unsqueeze(0) - joint).clamp_min(0).fill_diagonal_(0)
        return WorstPairCode(frequent, surprise.float(), rate, torch.ones_like(rate))

    def lengths(self, activity: Activity, context: Context) -> Bits:  # noqa: ARG002  # Code
        """Charge one bit a component, and the worst pair."""
        return self._worst(activity) + activity.num_components

    def contributions(
        self,
        activity: Activity,
        context: Context,  # noqa: ARG002  # Code
    ) -> Float64[Tensor, "batch component"]:
        """Share the surprise by how odd components are with all others that are active.

        A single odd pair has half each; one that is odd with many has the most, for it is likelier
        to be what does not belong than each of them. Odd are squares of surprises, so that pairs
        which met a little less by chance count for nothing however many they are.
        """
        bits = torch.ones(len(activity), activity.num_components, dtype=torch.float64)
        surprise = self._worst(activity)
        members = self._members(activity)
        for row in surprise.nonzero().squeeze(1).tolist():
            own = members[row][members[row] < self.frequent.numel()]
            odd = self._table[own][:, own].square().sum(dim=1)
            bits[row, self.frequent[own]] += surprise[row] * odd / odd.sum()
        return bits

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean contributions over kept sets; they do not depend on the context."""
        return self.usual.expand(context.numel(), -1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the same rates for every context."""
        return self.rate.expand(context.numel(), -1)

    def _worst(self, activity: Activity) -> Bits:
        """Return the largest surprise of each input."""
        table, members = self._table, self._members(activity)
        batch, most = members.shape
        surprise = torch.zeros(batch, dtype=torch.float64)
        if not most:
            return surprise
        for rows in torch.arange(batch).split(max(1, _CELLS // most**2)):
            own = members[rows]
            surprise[rows] = table[own.unsqueeze(2), own.unsqueeze(1)].flatten(1).amax(dim=1)
        return surprise

    def _members(self, activity: Activity) -> Int64[Tensor, "batch most"]:
        """Return the active ones of ``frequent``, filled up with one that surprises nobody."""
        none = self.frequent.numel()
        place = torch.full((activity.num_components,), none)
        place[self.frequent] = torch.arange(none)
        own = place[activity.components]
        rows, own = activity.rows[own < none], own[own < none]
        counts = rows.bincount(minlength=len(activity))
        nth = torch.arange(rows.numel()) - (counts.cumsum(dim=0) - counts)[rows]
        members = torch.full((len(activity), int(counts.max()) if rows.numel() else 0), none)
        members[rows, nth] = own
        return members

    @cached_property
    def _table(self) -> Float64[Tensor, "frequent_and_none frequent_and_none"]:
        return functional.pad(self.surprise.double(), (0, 1, 0, 1))
