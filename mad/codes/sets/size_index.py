"""The null among codes of sets: how many components, then which, each drawn by usage alone."""

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.codes.sets.independent import krichevsky_trofimov
from mad.codes.sets.samples import is_active, mean_contributions, shared_evenly, size_bits
from mad.codes.statistics import KeptSets, SetCounts
from mad.types import Activity, Bits, Context


@final
@dataclass(frozen=True)
class SizeIndexCode:
    """The size of a set by its frequency, then its members as draws from the usage of components.

    ``L(A) = -log2 P(k) - log2 k! - sum of log2 q_j over A`` for ``k`` members: the chance that
    ``k`` draws with replacement from ``q`` give these members in any order. Draws may repeat, and
    no set stands for those that do, so the Kraft sum is the chance that they do not, the mean over
    sizes of ``k! e_k(q)`` (``e_k`` the elementary symmetric polynomial): below one as soon as two
    members are possible. ``size_bits`` is ``-log2 P(k)``; ``usual`` the mean contributions.
    """

    size_bits: Float64[Tensor, " component_and_none"]
    member_bits: Float64[Tensor, " component"]
    rate: Float64[Tensor, " component"]
    usual: Float64[Tensor, " component"]

    @staticmethod
    def fit(kept: KeptSets, counts: SetCounts) -> "SizeIndexCode":
        """Take usage from all trusted inputs and sizes from the kept, half a pseudo-count each."""
        total = counts.active.sum(dim=0)
        usage = total.double() + 0.5
        rate = krichevsky_trofimov(total, counts.inputs.sum())
        member_bits = usage.sum().log2() - usage.log2()
        unfinished = SizeIndexCode(size_bits(kept), member_bits, rate, torch.zeros_like(rate))
        return replace(unfinished, usual=mean_contributions(unfinished, kept))

    def lengths(self, activity: Activity, context: Context) -> Bits:  # noqa: ARG002  # Code
        """Charge the size, then each member."""
        bits = self.member_bits[activity.components]
        return self._sizes(activity).index_add_(0, activity.rows, bits)

    def contributions(
        self,
        activity: Activity,
        context: Context,  # noqa: ARG002  # Code
    ) -> Float64[Tensor, "batch component"]:
        """Charge members their own bits, and the size evenly to the members."""
        active = is_active(activity)
        return active * self.member_bits + shared_evenly(self._sizes(activity), active)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean contributions over kept sets; they do not depend on the context."""
        return self.usual.expand(context.numel(), -1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the same rates for every context."""
        return self.rate.expand(context.numel(), -1)

    def _sizes(self, activity: Activity) -> Bits:
        """Return the bits of each size, less those of the order of its members."""
        counts = activity.counts
        orders = torch.lgamma(counts.double() + 1) / math.log(2)
        return self.size_bits[counts] - orders
