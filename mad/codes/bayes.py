"""Several codes of active sets as one: nearly as short as whichever of them is the shortest."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.codes.base import SetCode
from mad.codes.sets.clusters import entropy_of_choice, mixed_lengths, posterior, with_choice
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.joint import Joint
from mad.codes.sets.mixture import MixtureCode
from mad.types import Activity, Bits, Context


@final
@dataclass(frozen=True)
class BayesCode:
    """The Bayes mixture of codes: ``-log2 sum_m weight[m] 2 ** -length_m``.

    Law: no input costs more than ``-log2 weight[m]`` bits beyond what code ``m`` charges; with
    even weights, ``log2`` of the number of codes beyond the shortest. So a structure that one code
    lacks, such as what goes with a context or what goes together, counts when another has it.
    """

    members: tuple[SetCode, ...]
    weight: Float64[Tensor, " member"]

    @staticmethod
    def of(members: tuple[SetCode, ...]) -> "BayesCode":
        """Weigh all codes alike."""
        share = 1 / len(members)
        return BayesCode(members, torch.full((len(members),), share, dtype=torch.float64))

    def lengths(self, activity: Activity, context: Context) -> Bits:
        """Return the code length of each active set, in bits."""
        if self.joint is not None:
            return mixed_lengths(self.joint.of(activity, context))
        return mixed_lengths(self._joint(activity, context))

    def contributions(
        self, activity: Activity, context: Context
    ) -> Float64[Tensor, "batch component"]:
        """Charge each component what the codes do, each code by its posterior for the input.

        What choosing the codes costs, the divergence of the posterior from the weights, is shared
        evenly by the active components.
        """
        joint = self._joint(activity, context)
        charged = [member.contributions(activity, context) for member in self.members]
        within = _mean(posterior(joint), charged)
        return with_choice(within, mixed_lengths(joint), activity)

    def typical(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return what the codes say, each by the posterior of an input of its typical length.

        Choosing a code is taken to cost the divergence of that posterior from the weights, and to
        fall to components by their rates.
        """
        typical = [member.typical(context) for member in self.members]
        share = posterior(self._joint_at(torch.stack([one.sum(dim=1) for one in typical], dim=1)))
        price = -entropy_of_choice(share) - share @ self.weight.log2()
        rates = _mean(share, [member.rates(context) for member in self.members])
        return _mean(share, typical) + rates * (price / rates.sum(dim=1)).unsqueeze(1)

    def rates(self, context: Context) -> Float64[Tensor, "batch component"]:
        """Return the mean of the codes' rates by their weights."""
        share = self.weight.expand(context.numel(), -1)
        return _mean(share, [member.rates(context) for member in self.members])

    @cached_property
    def joint(self) -> Joint | None:
        """The clusters of all codes, each code's with its weight; None where one has no clusters.

        The probability of a set is their sum, whichever code they are of.
        """
        own = [one for one in self.members if isinstance(one, MixtureCode | ExpertsCode)]
        if len(own) < len(self.members):
            return None
        return Joint.side_by_side([one.joint for one in own], self.weight.log())

    def _joint(self, activity: Activity, context: Context) -> Float64[Tensor, "batch member"]:
        lengths = [member.lengths(activity, context) for member in self.members]
        return self._joint_at(torch.stack(lengths, dim=1))

    def _joint_at(
        self, lengths: Float64[Tensor, "batch member"]
    ) -> Float64[Tensor, "batch member"]:
        """Return ``ln`` of each code's weight and of the probability it gives the input."""
        return self.weight.log() - lengths * math.log(2)


def _mean(
    share: Float64[Tensor, "batch member"], values: list[Tensor]
) -> Float64[Tensor, "batch component"]:
    """Return the mean over codes; a code that has no share counts for nothing."""
    return torch.einsum("bm,mbc->bc", share, torch.stack(values))
