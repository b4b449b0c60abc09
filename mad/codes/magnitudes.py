"""How strongly each active component acts, on a logarithmic scale."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.contexts import rows_of
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.statistics import SetCounts
from mad.types import Activity, Bits, Context

RELATIVE_RESOLUTION = 0.05
"""Magnitudes are described to this share of themselves: the step of the grid of logarithms."""

SMALLEST = 1e-12
"""What is no larger, zero among it, is described as this."""

PRIOR_WEIGHT = 10.0
"""Entries by which a context leans on its component, and a component on all components."""


@final
@dataclass(frozen=True)
class MagnitudeMoments:
    """Count, mean, and sum of squares around the mean, of logarithms of magnitudes.

    For each component in each context, whose counts are ``counts``; ``negative`` is how many
    magnitudes were below zero. Counts merge exactly, moments to float64 rounding.
    """

    counts: SetCounts
    mean: Float64[Tensor, "context component"]
    squares: Float64[Tensor, "context component"]
    negative: int

    @staticmethod
    def of(activity: Activity, context: Context) -> "MagnitudeMoments":
        """Add up one batch."""
        counts = SetCounts.of(activity, context)
        row = torch.searchsorted(counts.contexts, context)[activity.rows]
        entries, logs = (row, activity.components), _logs(activity)
        total = torch.zeros(counts.active.shape, dtype=torch.float64)
        total.index_put_(entries, logs, accumulate=True)
        mean = total / counts.active.clamp_min(1)
        squares = torch.zeros_like(mean)
        squares.index_put_(entries, (logs - mean[entries]).square(), accumulate=True)
        return MagnitudeMoments(counts, mean, squares, int((activity.magnitudes < 0).sum()))

    def merge(self, other: "MagnitudeMoments") -> "MagnitudeMoments":
        """Return the moments of both parts of the data (Chan, Golub and LeVeque 1983)."""
        counts = self.counts.merge(other.counts)
        one, two = self._spread_over(counts.contexts), other._spread_over(counts.contexts)
        active = counts.active.clamp_min(1)
        apart = two.mean - one.mean
        return MagnitudeMoments(
            counts,
            one.mean + apart * two.counts.active / active,
            one.squares
            + two.squares
            + apart.square() * one.counts.active * two.counts.active / active,
            self.negative + other.negative,
        )

    def over_contexts(self) -> "MagnitudeMoments":
        """Return the moments over all contexts, as those of one context, -1."""
        mean, squares = _pooled(self.counts.active, self.mean, self.squares)
        counts = SetCounts(
            torch.tensor([-1]),
            self.counts.inputs.sum().reshape(1),
            self.counts.active.sum(dim=0, keepdim=True),
        )
        return MagnitudeMoments(counts, mean, squares, self.negative)

    def _spread_over(self, contexts: Int64[Tensor, " more"]) -> "MagnitudeMoments":
        """Return the same moments with a row for each of more contexts."""
        row = torch.searchsorted(contexts, self.counts.contexts)

        def spread(values: Tensor) -> Tensor:
            wider = values.new_zeros(contexts.numel(), *values.shape[1:])
            return wider.index_copy(0, row, values)

        counts = SetCounts(contexts, spread(self.counts.inputs), spread(self.counts.active))
        return MagnitudeMoments(counts, spread(self.mean), spread(self.squares), self.negative)


@final
@dataclass(frozen=True)
class MagnitudeCode:
    """The magnitudes of the active components, each on its own; the set is known already.

    A magnitude is a sign and a logarithm: ``-log2`` of Student's density times the grid's step. No
    scale is below twice the step, which holds the sum of density times step over any shift of the
    grid to one within 1e-12, and no length negative. Row ``i`` belongs to ``contexts[i]``
    (ascending), the last row to every other context.
    """

    contexts: Int64[Tensor, " context"]
    rate: Float64[Tensor, "context_and_any component"]
    location: Float64[Tensor, "context_and_any component"]
    scale: Float64[Tensor, "context_and_any component"]
    freedom: Float64[Tensor, "context_and_any component"]
    negative_rate: float

    @staticmethod
    def fit(moments: MagnitudeMoments) -> "MagnitudeCode":
        """Shrink each context's mean and variance to its component's, and those to all.

        For the same code in every context, fit it on the moments ``over_contexts``.
        """
        overall = moments.over_contexts()
        everything = _pooled(overall.counts.active.T, overall.mean.T, overall.squares.T)
        entries = int(overall.counts.active.sum())
        prior = (everything[0], everything[1] / entries if entries else torch.ones(1, 1).double())
        own = _shrunk(overall, *prior)
        given = _shrunk(moments, *own[:2])
        # One context is all of them: a row of its own would lean on the same entries twice.
        rows = slice(0, 0 if moments.counts.contexts.numel() == 1 else None)
        location, variance, freedom = (
            torch.cat([of_context[rows], of_all])
            for of_context, of_all in zip(given, own, strict=True)
        )
        return MagnitudeCode(
            moments.counts.contexts[rows],
            ConditionalCode.fit(moments.counts).rate[-len(location) :],
            location,
            variance.sqrt().clamp_min(2 * RELATIVE_RESOLUTION),
            freedom,
            negative_rate=(moments.negative + 0.5) / (entries + 1),
        )

    def lengths(self, activity: Activity, context: Context) -> Bits:
        """Return the bits of each input's magnitudes together."""
        lengths = torch.zeros(len(activity), dtype=torch.float64)
        return lengths.index_add_(0, activity.rows, self._entry_bits(activity, context))

    def contributions(
        self, activity: Activity, context: Context
    ) -> Float64[Tensor, "batch component"]:
        """Charge each active component the bits of its own magnitude."""
        bits = torch.zeros(len(activity), activity.num_components, dtype=torch.float64)
        entries = (activity.rows, activity.components)
        return bits.index_put_(entries, self._entry_bits(activity, context))

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean bits of each component's magnitude times the rate it is active at.

        The mean is over the code's own density, in the input's context.
        """
        rows, half = rows_of(self.contexts, context), self.freedom / 2
        above = torch.digamma(half + 0.5) - torch.digamma(half)
        nats = (half + 0.5) * above - self._log_height
        share = torch.tensor(self.negative_rate, dtype=torch.float64)
        sign = -torch.special.xlogy(share, share) - torch.special.xlog1py(1 - share, -share)
        bits: Tensor = self.rate * (nats + sign) / math.log(2)
        return bits[rows]

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return how often trusted inputs use each component, in each input's context."""
        return self.rate[rows_of(self.contexts, context)]

    def _entry_bits(self, activity: Activity, context: Context) -> Float64[Tensor, " entry"]:
        at = (rows_of(self.contexts, context)[activity.rows], activity.components)
        freedom = self.freedom[at]
        away = (_logs(activity) - self.location[at]) / self.scale[at]
        nats = (freedom + 1) / 2 * torch.log1p(away.square() / freedom) - self._log_height[at]
        share = torch.tensor([1 - self.negative_rate, self.negative_rate], dtype=torch.float64)
        return nats / math.log(2) - share.log2()[(activity.magnitudes < 0).long()]

    @cached_property
    def _log_height(self) -> Float64[Tensor, "context_and_any component"]:
        """The logarithm of density times step at its peak."""
        half = self.freedom / 2
        peak = torch.lgamma(half + 0.5) - torch.lgamma(half) - 0.5 * (self.freedom * math.pi).log()
        return peak - self.scale.log() + math.log(RELATIVE_RESOLUTION)


def _logs(activity: Activity) -> Float64[Tensor, " entry"]:
    return activity.magnitudes.double().abs().clamp_min(SMALLEST).log()


def _pooled(
    active: Int64[Tensor, "row column"],
    mean: Float64[Tensor, "row column"],
    squares: Float64[Tensor, "row column"],
) -> tuple[Float64[Tensor, "1 column"], Float64[Tensor, "1 column"]]:
    """Return mean and sum of squares around it of all rows together."""
    pooled = (active * mean).sum(dim=0, keepdim=True) / active.sum(dim=0).clamp_min(1)
    return pooled, (squares + active * (mean - pooled).square()).sum(dim=0, keepdim=True)


def _shrunk(
    moments: MagnitudeMoments,
    location: Float64[Tensor, "1 column"],
    variance: Float64[Tensor, "1 column"],
) -> tuple[Float64[Tensor, "context component"], ...]:
    """Return mean, variance and number of entries with PRIOR_WEIGHT of the given ones added."""
    active = moments.counts.active.double()
    weight = active + PRIOR_WEIGHT
    mean = (active * moments.mean + PRIOR_WEIGHT * location) / weight
    squares = moments.squares + active * (moments.mean - mean).square()
    return mean, (squares + PRIOR_WEIGHT * variance) / weight, weight
