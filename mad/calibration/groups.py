"""Group-conditional p-values: rank a surprise among those of trusted inputs of its own context."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.calibration.conformal import p_values, required_reference
from mad.types import Bits, Context, PValues, Reference


@final
@dataclass(frozen=True)
class GroupedReference:
    """A reference for each context that has enough of its own (Mondrian; Vovk et al. 2005, 4.5).

    Laws: in a context with a reference of its own, ``P(p <= a | context) <= a`` for every ``a``.
    The inputs of all others are ranked among everybody; no
    promise is made for one such context, and over all inputs
    ``P(p <= a) <= a + min(a, share of the others)``.

    ``contexts`` is ascending; the own reference of ``contexts[i]`` is
    ``own[offsets[i]:offsets[i + 1]]``, ascending; ``pooled`` is ascending too.
    """

    contexts: Int64[Tensor, " context"]
    offsets: Int64[Tensor, " offsets"]
    own: Float64[Tensor, " own"]
    pooled: Reference

    @staticmethod
    def fit(surprise: Bits, context: Context, *, false_alarm_rate: float) -> "GroupedReference":
        """Group trusted surprises; a group that cannot reach the rate has no reference of its own.

        Which groups are large enough depends on contexts alone, so ranks within them stay uniform.
        """
        ascending = surprise.argsort(stable=True)
        order = ascending[context[ascending].argsort(stable=True)]
        contexts, counts = context.unique(return_counts=True)
        large = counts >= required_reference(false_alarm_rate)
        own = surprise[order][large.repeat_interleave(counts)]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts[large].cumsum(dim=0)])
        return GroupedReference(contexts[large], offsets, own, surprise[ascending])

    def reference(self, context: int) -> Reference:
        """Return what inputs of a context are ranked among."""
        place = int(torch.searchsorted(self.contexts, context))
        if place == self.contexts.numel() or int(self.contexts[place]) != context:
            return self.pooled
        start, stop = self.offsets[place : place + 2].tolist()
        return self.own[start:stop]

    def p_values(self, surprise: Bits, context: Context) -> PValues:
        """Rank each surprise among its own group; ties count against the input."""
        found = torch.empty_like(surprise)
        for group in context.unique().tolist():
            members = context == group
            found[members] = p_values(surprise[members], self.reference(group))
        return found
