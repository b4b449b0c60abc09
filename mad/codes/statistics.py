"""What codes are fitted from: counts and moments that stream over batches and merge over shards."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.types import Activity, Context


@final
@dataclass(frozen=True)
class SetCounts:
    """How many inputs there were, and how many used each component, in each context.

    ``contexts`` are ascending. Merging is exact and does not depend on order.
    """

    contexts: Int64[Tensor, " context"]
    inputs: Int64[Tensor, " context"]
    active: Int64[Tensor, "context component"]

    @staticmethod
    def of(activity: Activity, context: Context) -> "SetCounts":
        """Count one batch."""
        contexts, place = context.unique(return_inverse=True)
        active = torch.zeros(contexts.numel(), activity.num_components, dtype=torch.int64)
        ones = torch.ones_like(activity.components)
        active.index_put_((place[activity.rows], activity.components), ones, accumulate=True)
        return SetCounts(contexts, place.bincount(minlength=contexts.numel()), active)

    def merge(self, other: "SetCounts") -> "SetCounts":
        """Return the counts of both parts of the data."""
        together = torch.cat([self.contexts, other.contexts])
        contexts, place = together.unique(return_inverse=True)
        inputs = torch.zeros(contexts.numel(), dtype=torch.int64)
        inputs.index_add_(0, place, torch.cat([self.inputs, other.inputs]))
        active = torch.zeros(contexts.numel(), self.active.shape[1], dtype=torch.int64)
        active.index_add_(0, place, torch.cat([self.active, other.active]))
        return SetCounts(contexts, inputs, active)


@final
@dataclass(frozen=True)
class ResidualMoments:
    """Count, sum and sum of outer products of residuals, in float64."""

    inputs: int
    total: Float64[Tensor, " coordinate"]
    outer: Float64[Tensor, "coordinate coordinate"]

    @staticmethod
    def of(activity: Activity) -> "ResidualMoments":
        """Add up one batch."""
        residual = activity.residual.double()
        return ResidualMoments(len(activity), residual.sum(dim=0), residual.T @ residual)

    def merge(self, other: "ResidualMoments") -> "ResidualMoments":
        """Return the moments of both parts of the data."""
        return ResidualMoments(
            self.inputs + other.inputs, self.total + other.total, self.outer + other.outer
        )
