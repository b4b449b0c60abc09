"""Which output the active set speaks for: the right components with the wrong output."""

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.contexts import rows_of
from mad.codes.sets.clusters import summed
from mad.codes.sets.independent import krichevsky_trofimov
from mad.codes.sets.joint import Joint
from mad.codes.sets.samples import as_activity, chosen, is_active, shared_evenly
from mad.codes.statistics import KeptSets, SetCounts
from mad.types import Activity, Bits, Context

LEANS = (1.0, 10.0, 100.0)
"""Pseudo-inputs by which rates given an output may lean on the rates over all."""

TRUSTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4)
"""Powers that evidence may be raised to: components that go together say one thing twice."""

MAX_HELD_OUT = 1_000
"""Kept sets, at most a fifth, by which one of each is chosen."""


@final
@dataclass(frozen=True)
class OutputCode:
    """The context, the output of the model itself, given the active set; a set costs nothing here.

    ``P(y | A)`` is proportional to ``2 ** (start_y + sum of evidence_yj over A)``. All outputs
    that trusted data never showed share the last of ``start``, for which nothing is evidence, so
    the Kraft sum over the known outputs and that one is one. A context below zero is no output and
    costs nothing. ``usual`` has the mean contributions for each output, the last row over all.
    """

    contexts: Int64[Tensor, " context"]
    start: Float64[Tensor, " context_and_new"]
    evidence: Float64[Tensor, "context component"]
    rate: Float64[Tensor, " component"]
    usual: Float64[Tensor, "context_and_any component"]

    @staticmethod
    def fit(kept: KeptSets, counts: SetCounts) -> "OutputCode":
        """Count components given each output (naive Bayes), and temper what they say together.

        How far rates lean on those over all, and the power the evidence is raised to, are those
        that describe the outputs of some kept sets in the fewest bits, by the counts of all other
        trusted inputs. The kept sets must be among those that were counted.
        """
        counts, kept = _with_output(counts, kept)
        fifth = torch.arange(0, len(kept), 5)
        held_out = chosen(kept, fifth[:: max(1, math.ceil(len(fifth) / MAX_HELD_OUT))])
        activity = as_activity(held_out)
        others = _without(counts, SetCounts.of(activity, held_out.context))

        def bits(choice: tuple[float, float]) -> float:
            code = _tempered(others, *choice)
            return float(code.lengths(activity, held_out.context).sum())

        lean, trust = min(itertools.product(LEANS, TRUSTS), key=bits)
        code = _tempered(counts, lean, trust)
        return replace(code, usual=code._mean_contributions(kept))

    def lengths(self, activity: Activity, context: Context) -> Bits:
        """Return ``-log2 P(y | A)``; its cost grows with active components and known outputs."""
        scores = self._scores(activity).numpy()
        own = scores[np.arange(len(scores)), rows_of(self.contexts, context).numpy()]
        # Of few numbers, numpy makes a third of the work that torch does.
        largest = scores.max(axis=1)
        total = np.exp2(scores - largest[:, None]).sum(axis=1)
        bits = largest + np.log2(total) - own
        return torch.from_numpy(np.where(context.numpy() >= 0, bits, 0.0))

    def contributions(
        self, activity: Activity, context: Context
    ) -> Float64[Tensor, "batch component"]:
        """Charge each active component how much more it speaks for other outputs than for this.

        Others count with their probability given the set. What no component accounts for, how
        frequent the output is and how undecided the set, is charged evenly to active components.
        """
        active = is_active(activity)
        for_other = self._for_other(activity, context) * (context >= 0)[activity.rows]
        own = torch.zeros(active.shape, dtype=torch.float64)
        own.index_put_((activity.rows, activity.components), for_other)
        return own + shared_evenly(self.lengths(activity, context) - own.sum(dim=1), active)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean contributions of kept sets with the same output, or over all."""
        return self.usual[rows_of(self.contexts, context)] * (context >= 0).unsqueeze(1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return how often trusted inputs use each component, whatever the output."""
        return self.rate.expand(context.numel(), -1)

    def _scores(self, activity: Activity) -> Float64[Tensor, "batch context_and_new"]:
        return self.start + summed(self._by_component, activity.components, activity.offsets)

    def _for_other(self, activity: Activity, context: Context) -> Float64[Tensor, " entry"]:
        share = torch.softmax(self._scores(activity) * math.log(2), dim=1)
        evidence = self._by_component[activity.components]
        own = rows_of(self.contexts, context)[activity.rows]
        expected = (share[activity.rows] * evidence).sum(dim=1)
        return expected - evidence.gather(1, own.unsqueeze(1)).squeeze(1)

    def _mean_contributions(self, kept: KeptSets) -> Float64[Tensor, "context_and_any component"]:
        """Add up over kept sets without a table of them."""
        activity, row = as_activity(kept), rows_of(self.contexts, kept.context)
        for_other = self._for_other(activity, kept.context)
        spare = self.lengths(activity, kept.context).index_add(0, activity.rows, -for_other)
        charge = for_other + (spare / activity.counts)[activity.rows]
        total = torch.zeros(self.start.numel(), activity.num_components, dtype=torch.float64)
        total.index_put_((row[activity.rows], activity.components), charge, accumulate=True)
        empty = activity.counts == 0
        to_all = row[empty].bincount(spare[empty], minlength=self.start.numel())
        total += to_all.unsqueeze(1) / activity.num_components
        inputs = row.bincount(minlength=self.start.numel())
        total[-1], inputs[-1] = total.sum(dim=0), len(kept)
        return total / inputs.clamp_min(1).unsqueeze(1)

    @property
    def joint(self) -> Joint:
        """What each active component adds to ``ln`` of each output's share."""
        nowhere = torch.empty(0, dtype=torch.int64)
        start, evidence = math.log(2) * self.start.unsqueeze(0), math.log(2) * self._by_component
        return Joint(nowhere, start, evidence)

    @cached_property
    def _by_component(self) -> Float64[Tensor, "component context_and_new"]:
        # Nothing is evidence for an output that trusted data never showed.
        return functional.pad(self.evidence.T, (0, 1)).contiguous()


def _tempered(counts: SetCounts, lean: float, trust: float) -> OutputCode:
    """Return naive Bayes on active and silent components with its evidence to a power."""
    inputs, active = counts.inputs.double().unsqueeze(1), counts.active.double()
    overall = krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum())
    given = (active + lean * overall) / (inputs + lean)
    silent = (torch.log1p(-given) - torch.log1p(-overall)) / math.log(2)
    evidence = trust * ((given / overall).log2() - silent)
    seen = torch.cat([counts.inputs.double() + 0.5, torch.tensor([0.5], dtype=torch.float64)])
    start = (seen / seen.sum()).log2()
    start[:-1] += trust * silent.sum(dim=1)
    usual = torch.zeros(len(seen), overall.numel(), dtype=torch.float64)
    return OutputCode(counts.contexts, start, evidence, overall, usual)


def _with_output(counts: SetCounts, kept: KeptSets) -> tuple[SetCounts, KeptSets]:
    known: Bool[Tensor, " context"] = counts.contexts >= 0
    own = (kept.context >= 0).nonzero().squeeze(1)
    return SetCounts(counts.contexts[known], counts.inputs[known], counts.active[known]), chosen(
        kept, own
    )


def _without(counts: SetCounts, part: SetCounts) -> SetCounts:
    """Return the counts of everything but a part of it."""
    row = torch.searchsorted(counts.contexts, part.contexts)
    return SetCounts(
        counts.contexts,
        counts.inputs.index_add(0, row, -part.inputs),
        counts.active.index_add(0, row, -part.active),
    )
