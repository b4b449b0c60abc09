"""What depends on an input's context: its row in a table, and where residuals lie on average."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.types import Activity, Context

SHRINKAGE = 20.0
"""Pseudo-inputs by which a context's mean leans on the mean over all contexts."""

ANY = -(2**62)
"""A context that nobody knows."""


def rows_of(contexts: Int64[Tensor, " known"], context: Context) -> Int64[Tensor, " batch"]:
    """Return the row of each context among ``contexts``, ascending; one more for any other."""
    known = contexts.numel()
    if not known:
        return torch.zeros_like(context)
    # Of few numbers, numpy makes a third of the work that torch does.
    ascending, wanted = contexts.numpy(), context.numpy()
    row = np.minimum(ascending.searchsorted(wanted), known - 1)
    return torch.from_numpy(np.where(ascending[row] == wanted, row, known))


@final
@dataclass(frozen=True)
class ContextMeans:
    """How many inputs there were in each context, and the mean of their residuals.

    ``contexts`` are ascending. Merging is exact for counts, and for means to float64 rounding.
    """

    contexts: Int64[Tensor, " context"]
    inputs: Int64[Tensor, " context"]
    mean: Float64[Tensor, "context coordinate"]

    @staticmethod
    def of(activity: Activity, context: Context) -> "ContextMeans":
        """Average one batch."""
        contexts, row = context.unique(return_inverse=True)
        inputs = row.bincount(minlength=contexts.numel())
        residual = activity.residual.double()
        total = torch.zeros(contexts.numel(), residual.shape[1], dtype=torch.float64)
        total.index_add_(0, row, residual)
        return ContextMeans(contexts, inputs, total / inputs.unsqueeze(1))

    def merge(self, other: "ContextMeans") -> "ContextMeans":
        """Return the means of both parts of the data."""
        contexts = torch.cat([self.contexts, other.contexts]).unique()
        inputs = torch.zeros(contexts.numel(), dtype=torch.int64)
        mean = torch.zeros(contexts.numel(), self.mean.shape[1], dtype=torch.float64)
        for part in (self, other):
            inputs.index_add_(0, torch.searchsorted(contexts, part.contexts), part.inputs)
        for part in (self, other):
            row = torch.searchsorted(contexts, part.contexts)
            weight = part.inputs.double() / inputs[row]
            mean.index_add_(0, row, part.mean * weight.unsqueeze(1))
        return ContextMeans(contexts, inputs, mean)


@final
@dataclass(frozen=True)
class Centres:
    """Where residuals are expected: ``mean`` of each context, the last row for any other.

    ``explained`` holds one vector a context. The sum of their outer products is what scatter
    around these means is less than scatter around the mean over all.
    """

    contexts: Int64[Tensor, " context"]
    mean: Float64[Tensor, "context_and_any coordinate"]
    explained: Float64[Tensor, "context coordinate"]

    @staticmethod
    def of(overall: Float64[Tensor, " coordinate"], means: ContextMeans | None) -> "Centres":
        """Shrink each context's mean towards the mean over all; with None there is only that."""
        if means is None:
            none = torch.empty(0, dtype=torch.int64)
            return Centres(none, overall.unsqueeze(0), overall.new_empty(0, overall.numel()))
        inputs = means.inputs.double().unsqueeze(1)
        kept = inputs / (inputs + SHRINKAGE)
        apart = means.mean - overall
        mean = torch.cat([overall + kept * apart, overall.unsqueeze(0)])
        # A mean moved a share k of its way leaves (1 - k)^2 of n apart apart' in the scatter.
        return Centres(means.contexts, mean, apart * (inputs * (1 - (1 - kept) ** 2)).sqrt())
