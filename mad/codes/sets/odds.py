"""How a context moves the log odds of components, and how clusters move them further."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.codes.sets.clusters import ClusterSums
from mad.codes.statistics import SetCounts

SHRINKAGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)
"""Pseudo-inputs by which a context's rates may lean on the rates over all."""

MAX_MOVE = 1.5
"""No log odds move further in one Newton step."""

MIN_PULL = 0.05
"""Ridge on the shift of a component that is never used; it grows by the component's rate."""


def leaning(
    counts: SetCounts, places: Int64[Tensor, " context"], overall: Float64[Tensor, " component"]
) -> Float64[Tensor, "context component"]:
    """Return how far the log odds in each context at ``places`` are from those over all.

    How far its rates lean on the rates over all is what costs the fewest bits when each input is
    left out in turn, which the counts alone tell.
    """
    active = counts.active[places].double()
    inputs = counts.inputs[places].double().unsqueeze(1)

    def bits_left_out(shrinkage: float) -> float:
        others = inputs - 1 + shrinkage
        on = torch.xlogy(active, (active - 1 + shrinkage * overall) / others)
        silent = inputs - active
        off = torch.xlogy(silent, (silent - 1 + shrinkage * (1 - overall)) / others)
        return -float((on + off).sum())

    shrinkage = min(SHRINKAGES, key=bits_left_out)
    return torch.logit((active + shrinkage * overall) / (inputs + shrinkage)) - overall.logit()


def moved(
    shift: Float64[Tensor, "component cluster"],
    odds: Float64[Tensor, "context_and_any component"],
    sums: ClusterSums,
) -> Float64[Tensor, "component cluster"]:
    """Return the shifts after one damped Newton step towards the uses that each cluster had.

    The last row of ``odds`` are those over all. A ridge pulls the shifts towards none, more weakly
    the rarer the component, since a rare one has fewer uses to speak for it.
    """
    expected, variance = torch.zeros_like(shift), torch.zeros_like(shift)
    for own, inputs in zip(odds, sums.inputs, strict=True):
        rate = torch.sigmoid(own.unsqueeze(1) + shift)
        expected.addcmul_(rate, inputs)
        variance.addcmul_(rate * (1 - rate), inputs)
    pull = (odds[-1].sigmoid().clamp_max(0.5) + MIN_PULL).unsqueeze(1)
    move = (sums.active - expected - pull * shift) / (variance + pull)
    return shift + move.clamp(-MAX_MOVE, MAX_MOVE)
