"""``ln`` of a set's probability with each hidden cluster, as one sum over its components."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.contexts import ANY, rows_of
from mad.codes.sets.clusters import summed
from mad.types import Activity, Context


@final
@dataclass(frozen=True)
class Joint:
    """What an active component adds: to each cluster whatever the context, to all in a context.

    ``start`` is ``ln`` of the probability of each cluster and of no component. Row ``i`` of
    ``start`` belongs to ``contexts[i]`` (ascending), the last row to every other context; so do the
    columns of each of ``odds``, which a component adds to a span of clusters of that many.
    """

    contexts: Int64[Tensor, " context"]
    start: Float64[Tensor, "context_and_any cluster"]
    shift: Float64[Tensor, "component cluster"]
    odds: tuple[tuple[slice, Float64[Tensor, "component context_and_any"]], ...] = ()

    @staticmethod
    def side_by_side(parts: Sequence["Joint"], log_weight: Float64[Tensor, " part"]) -> "Joint":
        """Return the clusters of several codes as those of one, each code with a weight."""
        contexts = torch.cat([part.contexts for part in parts]).unique()
        known = torch.cat([contexts, torch.tensor([ANY])])
        start, odds, width = [], [], 0
        for part, weight in zip(parts, log_weight, strict=True):
            place = rows_of(part.contexts, known)
            start.append(part.start[place] + weight)
            odds += [
                (slice(width + span.start, width + span.stop), own[:, place])
                for span, own in part.odds
            ]
            width += part.start.shape[1]
        shift = torch.cat([part.shift for part in parts], dim=1)
        return Joint(contexts, torch.cat(start, dim=1), shift, tuple(odds))

    def of(self, activity: Activity, context: Context) -> Float64[Tensor, "batch cluster"]:
        """Return it for each input; components are read once, whatever they add to."""
        place = rows_of(self.contexts, context)
        sums = summed(self._table, activity.components, activity.offsets)
        width = self.start.shape[1]
        joint = self.start[place].add_(sums[:, :width])
        column = place.unsqueeze(1)
        for number, (span, _) in enumerate(self.odds):
            joint[:, span] += sums.gather(1, column + (width + number * len(self.start)))
        return joint

    @cached_property
    def _table(self) -> Float64[Tensor, "component column"]:
        return torch.cat([self.shift, *(own for _, own in self.odds)], dim=1).contiguous()
