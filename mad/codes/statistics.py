"""What codes are fitted from: counts and moments that stream over batches and merge over shards."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

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
        contexts = torch.cat([self.contexts, other.contexts]).unique()
        inputs = torch.zeros(contexts.numel(), dtype=torch.int64)
        active = torch.zeros(contexts.numel(), self.active.shape[1], dtype=torch.int64)
        for part in (self, other):
            place = torch.searchsorted(contexts, part.contexts)
            inputs.index_add_(0, place, part.inputs)
            active.index_add_(0, place, part.active)
        return SetCounts(contexts, inputs, active)


@final
@dataclass(frozen=True)
class PairCounts:
    """How many inputs there were, and how many used both of two components, in any context.

    On the diagonal, how many used one. Merging is exact and does not depend on order. Memory grows
    with the square of the components.
    """

    inputs: int
    both: Int64[Tensor, "component component"]

    @staticmethod
    def of(activity: Activity) -> "PairCounts":
        """Count one batch."""
        # Double precision counts exactly, and multiplies by kernels that whole numbers have not.
        active = torch.zeros(len(activity), activity.num_components, dtype=torch.float64)
        active[activity.rows, activity.components] = 1.0
        return PairCounts(len(activity), (active.T @ active).long())

    def merge(self, other: "PairCounts") -> "PairCounts":
        """Return the counts of both parts of the data."""
        return PairCounts(self.inputs + other.inputs, self.both + other.both)

    @property
    def alone(self) -> SetCounts:
        """How many used each component, all in one context, -1."""
        inputs = torch.tensor([self.inputs])
        return SetCounts(torch.tensor([-1]), inputs, self.both.diagonal().unsqueeze(0).clone())

    def among(self, chosen: Int64[Tensor, " chosen"]) -> Float64[Tensor, "chosen chosen"]:
        """Return the counts of pairs of some components."""
        return self.both[chosen][:, chosen].double()


@final
@dataclass(frozen=True)
class ResidualMoments:
    """Count, mean, and sum of outer products around the mean, of residuals, in float64.

    Kept around the mean because a mean that dwarfs its spread would cancel every digit of it.
    """

    inputs: int
    mean: Float64[Tensor, " coordinate"]
    scatter: Float64[Tensor, "coordinate coordinate"]

    @staticmethod
    def of(activity: Activity) -> "ResidualMoments":
        """Add up one batch."""
        residual = activity.residual.double()
        mean = residual.mean(dim=0)
        away = residual - mean
        return ResidualMoments(len(activity), mean, away.T @ away)

    def merge(self, other: "ResidualMoments") -> "ResidualMoments":
        """Return the moments of both parts of the data (Chan, Golub and LeVeque 1983)."""
        inputs = self.inputs + other.inputs
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter.addr_(apart, apart, alpha=self.inputs * other.inputs / inputs)
        return ResidualMoments(inputs, self.mean + apart * (other.inputs / inputs), scatter)


@final
@dataclass(frozen=True)
class Kept:
    """A sample of trusted activations, and which trusted inputs they are."""

    rows: Int64[Tensor, " kept"]
    activations: Float[Tensor, "kept coordinate"]

    def merge(self, other: "Kept") -> "Kept":
        """Return the samples of both parts of the data, in the order of rows."""
        rows, order = torch.cat([self.rows, other.rows]).sort()
        return Kept(rows, torch.cat([self.activations, other.activations])[order])


@final
@dataclass(frozen=True)
class KeptSets:
    """A sample of trusted active sets, which trusted inputs they are, and in which contexts.

    The components of input ``i`` are the entries ``offsets[i]:offsets[i + 1]``, ascending.
    """

    rows: Int64[Tensor, " kept"]
    context: Int64[Tensor, " kept"]
    offsets: Int64[Tensor, " offsets"]
    components: Int64[Tensor, " entry"]
    num_components: int

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.rows.numel()

    @property
    def owners(self) -> Int64[Tensor, " entry"]:
        """The place in the sample that each entry belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.offsets.diff())

    @staticmethod
    def of(
        activity: Activity,
        context: Context,
        *,
        rows: Int64[Tensor, " batch"],
        keep: Bool[Tensor, " batch"],
    ) -> "KeptSets":
        """Keep the inputs of a batch where ``keep`` (one truth value each) says so."""
        kept = keep[activity.rows]
        order = torch.argsort(
            activity.rows[kept] * activity.num_components + activity.components[kept]
        )
        return KeptSets(
            rows[keep],
            context[keep],
            functional.pad(activity.counts[keep].cumsum(dim=0), (1, 0)),
            activity.components[kept][order],
            activity.num_components,
        )

    def merge(self, other: "KeptSets") -> "KeptSets":
        """Return the samples of both parts of the data, in the order of rows."""
        rows, order = torch.cat([self.rows, other.rows]).sort()
        counts = torch.cat([self.offsets.diff(), other.offsets.diff()])
        owners = torch.cat([self.owners, other.owners + len(self)])
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        by_place = torch.argsort(place[owners], stable=True)
        return KeptSets(
            rows,
            torch.cat([self.context, other.context])[order],
            functional.pad(counts[order].cumsum(dim=0), (1, 0)),
            torch.cat([self.components, other.components])[by_place],
            self.num_components,
        )
