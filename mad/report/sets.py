"""The codes of active sets that a description may choose from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.base import SetCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.mixture import MixtureCode
from mad.codes.statistics import KeptSets, SetCounts
from mad.types import Activity, Bits, Context

CLUSTERS = (4, 8, 16, 32, 64)
"""Sizes of mixture to try; a larger one must pay for its parameters."""


@final
@dataclass(frozen=True)
class LabelCode:
    """The context itself, which nobody knows for free; one symbol stands for all unseen labels."""

    contexts: Int64[Tensor, " context"]
    bits: Float64[Tensor, " context_and_any"]

    @staticmethod
    def fit(counts: SetCounts) -> "LabelCode":
        """Count labels, with half a pseudo-count each (Krichevsky-Trofimov)."""
        seen = torch.cat([counts.inputs.double(), torch.zeros(1, dtype=torch.float64)]) + 0.5
        return LabelCode(counts.contexts, seen.sum().log2() - seen.log2())

    def lengths(self, context: Context) -> Bits:
        """Return the code length of each label, in bits."""
        known = self.contexts.numel()
        place = torch.searchsorted(self.contexts, context).clamp_max(known - 1)
        return self.bits[torch.where(self.contexts[place] == context, place, known)]


@final
@dataclass(frozen=True)
class SetCandidate:
    """A code of active sets, and of the label it is conditioned on, if it is.

    ``parameters_each`` is how many coins each component has, used or not; ``parameters_beside``
    how many numbers there are besides.
    """

    name: str
    code: SetCode
    label: LabelCode | None
    parameters_each: int
    parameters_beside: int

    def lengths(self, said: Activity, context: Context) -> Bits:
        """Return the code length of each active set, and of its label where one is needed."""
        bits = self.code.lengths(said, context)
        return bits if self.label is None else bits + self.label.lengths(context)


def set_candidates(
    counts: SetCounts, kept: KeptSets, *, clusters: Sequence[int], seed: int
) -> Iterator[SetCandidate]:
    """Fit every code; a conditional one only where there is more than one label."""
    labels = counts.contexts.numel()
    yield SetCandidate("independent", IndependentCode.fit(counts), None, 1, 0)
    if labels > 1:
        conditional = ConditionalCode.fit(counts)
        yield SetCandidate("conditional", conditional, LabelCode.fit(counts), labels + 1, labels)
    whole = SetCounts(
        torch.full((1,), -1),
        counts.inputs.sum(dim=0, keepdim=True),
        counts.active.sum(dim=0, keepdim=True),
    )
    unlabelled = replace(kept, context=torch.full_like(kept.context, -1))
    fitted: set[int] = set()
    for most in clusters:
        mixture = MixtureCode.fit(unlabelled, whole, clusters=most, seed=seed)
        found = mixture.rate.shape[1]
        if found not in fitted:
            fitted.add(found)
            yield SetCandidate(f"mixture of {found}", mixture, None, found, found - 1)
