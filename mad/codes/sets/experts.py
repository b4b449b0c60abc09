"""Clusters of active sets and the context's own habits, multiplied: a product of experts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.contexts import rows_of
from mad.codes.sets.clusters import (
    MAX_CLUSTERS,
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
from mad.codes.sets.odds import leaning, moved
from mad.codes.sets.samples import as_activity
from mad.codes.statistics import KeptSets, SetCounts
from mad.types import Activity, Bits, Context

MAX_CONTEXTS = 64
"""Contexts with odds of their own, the most frequent; each is a pass in every step of fitting."""

MAX_STEPS = 30


@final
@dataclass(frozen=True)
class ExpertsCode:
    """Each set belongs to a hidden cluster; its log odds add to those of the context.

    A component is a coin of bias ``sigmoid(odds[y, j] + shift[j, k])`` in context ``y`` and cluster
    ``k``, so that ``C (K + Y)`` numbers tell apart what the ``C K`` of a mixture cannot: which
    context a set is from, and what goes together in any of them (Hinton 2002). ``base[y, k]`` is
    ``ln`` of the probability of no component. Row ``i`` of ``weight``, ``odds`` and ``base``
    belongs to ``contexts[i]`` (ascending), their last row to every other context.
    """

    contexts: Int64[Tensor, " context"]
    weight: Float64[Tensor, "context_and_any cluster"]
    odds: Float64[Tensor, "context_and_any component"]
    shift: Float64[Tensor, "component cluster"]
    base: Float64[Tensor, "context_and_any cluster"]

    @staticmethod
    def fit(
        sets: KeptSets, counts: SetCounts, *, clusters: int = MAX_CLUSTERS, seed: int = 0
    ) -> "ExpertsCode":
        """Fit clusters to kept sets by expectation maximisation; contexts' odds come from counts.

        There is a cluster for every 20 kept sets, at most ``clusters`` and no fewer than two. The
        same sets and seed give the same code. Needs at least one set.
        """
        overall = krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum())
        frequent = counts.inputs.argsort(descending=True, stable=True)[:MAX_CONTEXTS].sort().values
        odds = overall.logit() + torch.cat(
            [leaning(counts, frequent, overall), torch.zeros(1, len(overall), dtype=torch.float64)]
        )
        number = number_of_clusters(len(sets), most=clusters)
        code = _seeded(sets, counts.contexts[frequent], odds, clusters=number, seed=seed)
        return _climbed(code, sets)

    @staticmethod
    def of(
        contexts: Int64[Tensor, " context"],
        weight: Float64[Tensor, "context_and_any cluster"],
        odds: Float64[Tensor, "context_and_any component"],
        shift: Float64[Tensor, "component cluster"],
    ) -> "ExpertsCode":
        """Work out the bases, which make the probabilities of all sets add up to one."""
        base = torch.stack(
            [-functional.softplus(own.unsqueeze(1) + shift).sum(dim=0) for own in odds]
        )
        return ExpertsCode(contexts, weight, odds, shift, base)

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
        place = rows_of(self.contexts, context)
        joint = self._joint(activity, context)
        share = posterior(joint)
        silence = self._mean(place, share, functional.softplus)
        entries = (activity.rows, activity.components)
        odds = self.odds[place[activity.rows], activity.components]
        odds = odds + (self.shift[activity.components] * share[activity.rows]).sum(dim=1)
        within = silence.index_put(entries, -odds, accumulate=True) / math.log(2)
        return with_choice(within, mixed_lengths(joint), activity)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean of each component's contribution, exact but for choosing the cluster.

        Within clusters the mean is the entropy of the component's coins. Choosing the cluster is
        taken to cost the entropy of the weights, which it does where sets tell clusters apart and
        never exceeds on average, and to fall to components by their rates.
        """
        place = rows_of(self.contexts, context)
        weight = self.weight[place]
        rates = self._mean(place, weight, torch.sigmoid)
        within = self._mean(place, weight, _entropy)
        return within + rates * (entropy_of_choice(weight) / rates.sum(dim=1)).unsqueeze(1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the rates over all clusters in each input's context."""
        place = rows_of(self.contexts, context)
        return self._mean(place, self.weight[place], torch.sigmoid)

    def _joint(self, activity: Activity, context: Context) -> Float64[Tensor, "batch cluster"]:
        return self.joint.of(activity, context)

    @cached_property
    def joint(self) -> Joint:
        """What each active component adds to ``ln`` of the probability with each cluster."""
        every = slice(0, self.shift.shape[1])
        start = self.weight.log() + self.base
        return Joint(self.contexts, start, self.shift, ((every, self.odds.T),))

    def _mean(
        self,
        place: Int64[Tensor, " batch"],
        share: Float64[Tensor, "batch cluster"],
        of: Callable[[Tensor], Tensor],
    ) -> Float64[Tensor, "batch component"]:
        """Return the mean over clusters of a function of the log odds, context by context."""
        means = torch.empty(place.numel(), self.shift.shape[0], dtype=torch.float64)
        for row in place.unique():
            here = place == row
            means[here] = share[here] @ of(self.odds[row].unsqueeze(1) + self.shift).T
        return means


def _entropy(log_odds: Float64[Tensor, "component cluster"]) -> Float64[Tensor, "..."]:
    return (functional.softplus(log_odds) - log_odds * log_odds.sigmoid()) / math.log(2)


def _seeded(
    sets: KeptSets,
    contexts: Int64[Tensor, " context"],
    odds: Float64[Tensor, "context_and_any component"],
    *,
    clusters: int,
    seed: int,
) -> ExpertsCode:
    """Start with clusters around kept sets, as far as their contexts do not explain them."""
    generator = torch.Generator().manual_seed(seed)
    seeds, members = drawn(sets, clusters=clusters, generator=generator)
    usual = odds[rows_of(contexts, sets.context[seeds])].T
    shift = torch.logit((members + usual.sigmoid()) / 2) - usual
    weight = torch.full((len(odds), clusters), 1 / clusters, dtype=torch.float64)
    return ExpertsCode.of(contexts, weight, odds, shift.contiguous())


def _climbed(code: ExpertsCode, sets: KeptSets) -> ExpertsCode:
    before = math.inf
    for _ in range(MAX_STEPS):
        sums = code.expect(sets)
        if before - sums.bits < TOLERANCE_BITS * len(sets):
            break
        before = sums.bits
        shift = moved(code.shift, code.odds, sums)
        code = ExpertsCode.of(code.contexts, sums.weight, code.odds, shift)
    return code
