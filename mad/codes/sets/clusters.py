"""What codes with hidden clusters share: ``ln P`` by cluster in, lengths and charges out."""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.contexts import rows_of
from mad.codes.sets.samples import as_activity, chosen, is_active, shared_evenly
from mad.codes.statistics import KeptSets
from mad.types import Activity, Bits

MAX_CLUSTERS = 64

SETS_PER_CLUSTER = 20
"""A cluster needs this many trusted sets to be worth its parameters."""

CONTEXT_SHRINKAGE = 10.0
"""Pseudo-inputs by which a context's cluster weights lean on those over all contexts."""

MAX_STEPS = 40

TOLERANCE_BITS = 0.01
"""EM stops when a step saves fewer bits a set than this."""


@final
@dataclass(frozen=True)
class ClusterSums:
    """What one EM step adds up over trusted sets, each shared among clusters by their posterior.

    ``inputs`` is how many sets fell to each cluster in each context, ``active`` how many of them
    used each component, and ``bits`` what all of them cost. Merging does not depend on order.
    """

    inputs: Float64[Tensor, "context_and_any cluster"]
    active: Float64[Tensor, "component cluster"]
    bits: float

    @staticmethod
    def of(
        sets: KeptSets,
        joint: Float64[Tensor, "kept cluster"],
        *,
        contexts: Int64[Tensor, " context"],
    ) -> "ClusterSums":
        """Add up one shard, given ``ln`` of each set's probability jointly with each cluster.

        ``inputs`` gets a row for each of ``contexts``, ascending, and one for any other.
        """
        share = posterior(joint)
        place = rows_of(contexts, sets.context)
        inputs = torch.zeros(contexts.numel() + 1, joint.shape[1], dtype=torch.float64)
        by_component = torch.argsort(sets.components, stable=True)
        uses = sets.components.bincount(minlength=sets.num_components)
        return ClusterSums(
            inputs.index_add_(0, place, share),
            summed(share, sets.owners[by_component], functional.pad(uses.cumsum(dim=0), (1, 0))),
            float(mixed_lengths(joint).sum()),
        )

    def merge(self, other: "ClusterSums") -> "ClusterSums":
        """Return the sums of both parts of the data."""
        return ClusterSums(
            self.inputs + other.inputs, self.active + other.active, self.bits + other.bits
        )

    @property
    def weight(self) -> Float64[Tensor, "context_and_any cluster"]:
        """The share of each cluster in each context, and at last over all contexts.

        Shares over all have half a pseudo-set a cluster; those of a context lean on them.
        """
        total = self.inputs.sum(dim=0) + 0.5
        overall = total / total.sum()
        given = (self.inputs[:-1] + CONTEXT_SHRINKAGE * overall) / (
            self.inputs[:-1].sum(dim=1, keepdim=True) + CONTEXT_SHRINKAGE
        )
        return torch.cat([given, overall.unsqueeze(0)])


def number_of_clusters(sets: int, *, most: int) -> int:
    """Return how many clusters so many trusted sets can tell apart, two or more."""
    return min(most, max(2, sets // SETS_PER_CLUSTER))


def summed(
    table: Float64[Tensor, "row cluster"],
    rows: Int64[Tensor, " entry"],
    offsets: Int64[Tensor, " offsets"],
) -> Float64[Tensor, "bag cluster"]:
    """Add up rows of a table, bag by bag, each bag in the order of its entries."""
    # What functional.embedding_bag comes to after checks that take longer than a few sums.
    return torch.embedding_bag(table, rows, offsets, mode=0, include_last_offset=True)[0]


def mixed_lengths(joint: Float64[Tensor, "batch cluster"]) -> Bits:
    """Return ``-log2`` of each set's probability, given ``ln`` of its parts by cluster."""
    return -torch.logsumexp(joint, dim=1) / math.log(2)


def posterior(joint: Float64[Tensor, "batch cluster"]) -> Float64[Tensor, "batch cluster"]:
    """Return the probability of each cluster given the set."""
    return torch.softmax(joint, dim=1)


def with_choice(
    within: Float64[Tensor, "batch component"], lengths: Bits, activity: Activity
) -> Float64[Tensor, "batch component"]:
    """Charge what is left of each length after ``within`` evenly to the active components.

    When ``within`` is the posterior mean of each cluster's bits, what is left is the divergence of
    the posterior from the weights: the price of choosing a cluster. Where none is active, all pay.
    """
    return within + shared_evenly(lengths - within.sum(dim=1), is_active(activity))


def entropy_of_choice(weight: Float64[Tensor, "batch cluster"]) -> Bits:
    """Return the mean bits of naming a cluster drawn by its weight."""
    return -torch.xlogy(weight, weight).sum(dim=1) / math.log(2)


def drawn(
    sets: KeptSets, *, clusters: int, generator: torch.Generator
) -> tuple[Int64[Tensor, " cluster"], Float64[Tensor, "component cluster"]]:
    """Draw sets to start clusters around; return their places, and ones where they are active.

    Drawing them far apart, as k-means++ does, saved no held-out bits on eight tasks.
    """
    places = torch.randperm(len(sets), generator=generator).repeat(clusters)[:clusters]
    found = is_active(as_activity(chosen(sets, places)))
    return places, found.T.double()
