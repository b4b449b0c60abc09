"""The independent code, given a small discrete context such as the class the model predicts."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.contexts import rows_of
from mad.codes.sets.independent import (
    charged,
    entropy,
    krichevsky_trofimov,
    silence_and_correction,
)
from mad.codes.statistics import SetCounts
from mad.types import Activity, Bits, Context

SHRINKAGE = 20.0
"""Pseudo-inputs by which a context's rates lean on the rates over all contexts."""


@final
@dataclass(frozen=True)
class ConditionalCode:
    """Each component is a coin whose bias depends on the context.

    Row ``i`` of ``rate`` belongs to ``contexts[i]`` (ascending); the last row, the rates over all
    contexts, serves every context that trusted data never showed.
    """

    contexts: Int64[Tensor, " context"]
    rate: Float64[Tensor, "context_and_any component"]

    @staticmethod
    def fit(counts: SetCounts) -> "ConditionalCode":
        """Shrink the rate in each context towards the Krichevsky-Trofimov rate over all."""
        overall = krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum())
        given = (counts.active.double() + SHRINKAGE * overall) / (
            counts.inputs.double().unsqueeze(1) + SHRINKAGE
        )
        return ConditionalCode(counts.contexts, torch.cat([given, overall.unsqueeze(0)]))

    def lengths(self, activity: Activity, context: Context) -> Bits:
        """Charge silence for every component, then correct the active ones."""
        silence, correction = self._tables
        place = rows_of(self.contexts, context)
        lengths = silence[place]
        entries = (place[activity.rows], activity.components)
        return lengths.index_add_(0, activity.rows, correction[entries])

    def contributions(
        self, activity: Activity, context: Context
    ) -> Float64[Tensor, "batch component"]:
        """Charge ``-log2 p`` for what is active and ``-log2 (1 - p)`` for what is not."""
        return charged(self.rates(context), activity)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the entropy of each component's coin in each input's context."""
        return entropy(self.rates(context))

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the rates in each input's context."""
        return self.rate[rows_of(self.contexts, context)]

    @cached_property
    def _tables(
        self,
    ) -> tuple[Float64[Tensor, " context_and_any"], Float64[Tensor, "context_and_any component"]]:
        silence, correction = silence_and_correction(self.rate)
        return silence.sum(dim=1), correction
