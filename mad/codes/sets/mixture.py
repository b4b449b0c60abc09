"""Clusters of active sets: which components go together, whatever the model says of the input."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.contexts import rows_of
from mad.codes.sets.clusters import (
    MAX_CLUSTERS,
    MAX_STEPS,
    TOLERANCE_BITS,
    ClusterSums,
    drawn,
    entropy_of_choice,
    mixed_lengths,
    number_of_clusters,
    posterior,
    with_choice,
)
from mad.codes.sets.independent import krichevsky_trofimov
from mad.codes.sets.joint import Joint
from mad.codes.sets.samples import as_activity
from mad.codes.statistics import KeptSets, SetCounts
from mad.types import Activity, Bits, Context

SHRINKAGE = 1.0
"""Pseudo-sets by which a cluster's rates lean on the rates over all."""


@final
@dataclass(frozen=True)
class MixtureCode:
    """Each set belongs to a hidden cluster, and components are coins whose bias it sets.

    ``P(A | y) = sum_k weight[y, k] prod_j rate[j, k]^a_j (1 - rate[j, k])^(1 - a_j)``. Row ``i`` of
    ``weight`` belongs to ``contexts[i]`` (ascending), its last row to every other context. A usual
    component costs much where the components it goes with are silent.
    """

    contexts: Int64[Tensor, " context"]
    weight: Float64[Tensor, "context_and_any cluster"]
    rate: Float64[Tensor, "component cluster"]

    @staticmethod
    def fit(
        sets: KeptSets, counts: SetCounts, *, clusters: int = MAX_CLUSTERS, seed: int = 0
    ) -> "MixtureCode":
        """Fit clusters to kept sets by expectation maximisation; rates over all come from counts.

        There is a cluster for every 20 kept sets, at most ``clusters`` and no fewer than two. The
        same sets and seed give the same code. Needs at least one set.
        """
        code = _seeded(sets, counts, number_of_clusters(len(sets), most=clusters), seed)
        before = math.inf
        for _ in range(MAX_STEPS):
            sums = code.expect(sets)
            code = MixtureCode.of(sums, counts)
            if before - sums.bits < TOLERANCE_BITS * len(sets):
                break
            before = sums.bits
        return code

    @staticmethod
    def of(sums: ClusterSums, counts: SetCounts) -> "MixtureCode":
        """Return the likeliest code given which sets belong to which cluster (M step)."""
        overall = krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum()).unsqueeze(1)
        rate = (sums.active + SHRINKAGE * overall) / (sums.inputs.sum(dim=0) + SHRINKAGE)
        return MixtureCode(counts.contexts, sums.weight, rate)

    def expect(self, sets: KeptSets) -> ClusterSums:
        """Share some trusted sets among the clusters (E step); sums of shards merge."""
        joint = self._joint(as_activity(sets), sets.context)
        return ClusterSums.of(sets, joint, contexts=self.contexts)

    def lengths(self, activity: Activity, context: Context) -> Bits:
        """Return the code length of each active set, in bits."""
        return mixed_lengths(self._joint(activity, context))

    def contributions(
        self, activity: Activity, context: Context
    ) -> Float64[Tensor, "batch component"]:
        """Charge each component its mean bits over the posterior of clusters.

        What choosing the clusters costs, the divergence of the posterior from the weights, is
        shared evenly by the active components.
        """
        joint = self._joint(activity, context)
        share = posterior(joint)
        entries = (activity.rows, activity.components)
        odds = (self._log_odds[activity.components] * share[activity.rows]).sum(dim=1)
        silence = share @ self._silence.T
        within = silence.index_put(entries, -odds, accumulate=True) / math.log(2)
        return with_choice(within, mixed_lengths(joint), activity)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean of each component's contribution, exact but for naming the cluster.

        Within clusters the mean is the entropy of the component's coins. Choosing the cluster is
        taken to cost the entropy of the weights, which it does where sets tell clusters apart and
        never exceeds on average, and to fall to components by their rates.
        """
        weight = self.weight[rows_of(self.contexts, context)]
        rates = weight @ self.rate.T
        entropy = self._silence - self.rate * self._log_odds
        within = weight @ entropy.T / math.log(2)
        return within + rates * (entropy_of_choice(weight) / rates.sum(dim=1)).unsqueeze(1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the rates over all clusters in each input's context."""
        return self.weight[rows_of(self.contexts, context)] @ self.rate.T

    def _joint(self, activity: Activity, context: Context) -> Float64[Tensor, "batch cluster"]:
        return self.joint.of(activity, context)

    @cached_property
    def joint(self) -> Joint:
        """What each active component adds to ``ln`` of the probability with each cluster."""
        start = self.weight.log() - self._silence.sum(dim=0)
        return Joint(self.contexts, start, self._log_odds)

    @cached_property
    def _log_odds(self) -> Float64[Tensor, "component cluster"]:
        return torch.logit(self.rate)

    @cached_property
    def _silence(self) -> Float64[Tensor, "component cluster"]:
        """What a silent component costs in each cluster, in nats."""
        return -torch.log1p(-self.rate)


def _seeded(sets: KeptSets, counts: SetCounts, clusters: int, seed: int) -> MixtureCode:
    """Start with clusters around kept sets, each half its own set and half the rates over all."""
    overall = krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum())
    generator = torch.Generator().manual_seed(seed)
    _, members = drawn(sets, clusters=clusters, generator=generator)
    weight = torch.full((counts.contexts.numel() + 1, clusters), 1 / clusters, dtype=torch.float64)
    return MixtureCode(counts.contexts, weight, (members + overall.unsqueeze(1)) / 2)
