"""A code that treats components as independent coins."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.sets.joint import Joint
from mad.codes.statistics import SetCounts
from mad.types import Activity, Bits, Context


@final
@dataclass(frozen=True)
class IndependentCode:
    """Each component is a coin whose bias is its rate in trusted data.

    A component never seen among ``n`` trusted inputs costs ``log2(2 n + 2)`` bits.
    """

    rate: Float64[Tensor, " component"]

    @staticmethod
    def fit(counts: SetCounts) -> "IndependentCode":
        """Estimate each rate with half a pseudo-count on either side (Krichevsky-Trofimov)."""
        return IndependentCode(krichevsky_trofimov(counts.active.sum(dim=0), counts.inputs.sum()))

    def lengths(self, activity: Activity, context: Context) -> Bits:  # noqa: ARG002  # Code
        """Charge silence for every component, then correct the active ones."""
        silence, correction = self._tables
        lengths = torch.full((len(activity),), silence, dtype=torch.float64)
        return lengths.index_add_(0, activity.rows, correction[activity.components])

    def contributions(
        self, activity: Activity, context: Context
    ) -> Float64[Tensor, "batch component"]:
        """Charge ``-log2 p`` for what is active and ``-log2 (1 - p)`` for what is not."""
        return charged(self.rates(context), activity)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the entropy of each component's coin."""
        return entropy(self.rates(context))

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the same rates for every context."""
        return self.rate.expand(context.numel(), -1)

    @property
    def joint(self) -> Joint:
        """What each active component adds to ``ln`` of the probability: there is one cluster."""
        silence, correction = self._tables
        start = torch.tensor([[-silence * math.log(2)]], dtype=torch.float64)
        return Joint(torch.empty(0, dtype=torch.int64), start, -math.log(2) * correction[:, None])

    @cached_property
    def _tables(self) -> tuple[float, Float64[Tensor, " component"]]:
        silence, correction = silence_and_correction(self.rate)
        return float(silence.sum()), correction


def krichevsky_trofimov(
    active: Int64[Tensor, " component"], inputs: Int64[Tensor, ""]
) -> Float64[Tensor, " component"]:
    """Return ``(active + 1/2) / (inputs + 1)``: never zero, never one."""
    return (active.double() + 0.5) / (inputs.double() + 1)


def silence_and_correction(
    rate: Float64[Tensor, "*contexts component"],
) -> tuple[Float64[Tensor, "*contexts component"], Float64[Tensor, "*contexts component"]]:
    """Return the bits a silent component costs, and what an active one costs beyond that."""
    silence = -torch.log1p(-rate) / math.log(2)
    return silence, -rate.log2() - silence


def entropy(
    rates: Float64[Tensor, "batch component"],
) -> Float64[Tensor, "batch component"]:
    """Return the mean bits of coins with these rates."""
    silence, correction = silence_and_correction(rates)
    return silence + rates * correction


def charged(
    rates: Float64[Tensor, "batch component"], activity: Activity
) -> Float64[Tensor, "batch component"]:
    """Return every component's own bits, active or silent, for one rate an input and component."""
    bits, correction = silence_and_correction(rates)
    entries = (activity.rows, activity.components)
    return bits.index_put(entries, correction[entries], accumulate=True)
