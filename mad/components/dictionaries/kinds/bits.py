"""Description length: as many latents are active as make descriptions shortest.

The criterion of Ayonrinde, Pearce and Sharkey 2024, "Interpretability as compression: reconsidering
SAE explanations of neural activations with MDL-SAEs", as what training descends.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.jumprelu import JumpReLULearner
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.missed import missed_share
from mad.components.dictionaries.plan import DictionaryPlan

_BEGINNING = 0.3
"""The share of the steps in which k latents are active, so that directions form: to start with no
latent is worth its bits."""

_MEMORY = 0.98
"""What running rates and moments keep of themselves a step."""

_RAREST = 1e-4
"""The lowest rate in the code of a latent: a silent one must cost finitely many bits to use."""


@final
@dataclass
class Usage:
    """How often each latent is active, and the sums of its values and of their squares.

    Running means over vectors, of which most add nothing.
    """

    rate: Float[Tensor, " component"]
    total: Float[Tensor, " component"]
    squares: Float[Tensor, " component"]

    @staticmethod
    def begin(width: int, *, active: int, magnitude: float) -> "Usage":
        """Let all latents be used alike, with as much spread as magnitude."""
        rate = torch.full((width,), active / width)
        return Usage(rate, rate * magnitude, rate * 2 * magnitude**2)

    @property
    def mean(self) -> Float[Tensor, " component"]:
        """The mean value of each latent where it is active."""
        return self.total / self.rate.clamp_min(_RAREST)

    @property
    def variance(self) -> Float[Tensor, " component"]:
        """The variance of each latent's values where it is active."""
        return (self.squares / self.rate.clamp_min(_RAREST) - self.mean.square()).clamp_min(0)

    def saw(self, latents: Latents) -> None:
        """Take in a batch."""
        values, at = latents.values.detach(), latents.components
        for running, added in (
            (self.rate, torch.ones_like(values)),
            (self.total, values),
            (self.squares, values.square()),
        ):
            share = (1 - _MEMORY) / len(latents)
            running.mul_(_MEMORY).index_add_(0, at, added, alpha=share)


@final
@dataclass
class BitsLearner:
    """Trains thresholded latents to make descriptions short, at a precision.

    A description of a vector says which latents are active, by a coin each with its running rate;
    how strongly, by a Gaussian each with its running moments; and the error of every coordinate, by
    a Gaussian of the batch's variance. All are on a grid of ``resolution``, as a share of the
    deviation of the vectors, and of the target's where that is another. The loss is the bits over
    those of a description without latents.
    """

    jumping: JumpReLULearner
    usage: Usage
    resolution: float

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "BitsLearner":
        """Own the first weights, and begin with the activity that is asked for."""
        jumping = JumpReLULearner.begin(start, plan)
        usage = Usage.begin(
            jumping.width, active=jumping.steering.wanted, magnitude=float(start.threshold)
        )
        return BitsLearner(jumping, usage, plan.resolution)

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        return self.jumping.parameters

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The codes of latents, and what keeps k of them active at first."""
        return {**vars(self.usage), **self.jumping.buffers}

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.jumping.width

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the latents above their thresholds."""
        return self.jumping.forward(source)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Replace the squares missed by the bits; let the dead explain the error."""
        if step.progress < _BEGINNING:
            return self.jumping.penalty(forward, batch, step)
        assert forward.rates is not None
        error = batch.target - forward.explained
        missed = missed_share(forward.explained, batch.target)
        threshold = self.jumping.weights.threshold.detach()
        bits = (
            set_bits(forward.rates, self.usage.rate)
            + magnitude_bits(forward, self.usage, threshold, step=self.resolution)
            + residual_bits(error, step=self.resolution)
        )
        share = bits / residual_bits(batch.target, step=self.resolution)
        if not step.dead.numel():
            return share - missed
        most = 2 * self.jumping.steering.wanted
        revived = self.jumping.weights.revived(forward, batch, step, most=most)
        return share - missed + self.jumping.auxiliary_weight * revived

    def stepped(self, forward: Forward) -> None:
        """Keep directions at unit length, and follow how latents are used."""
        self.jumping.stepped(forward)
        self.usage.saw(forward.latents)

    def finish(self, sample: Examples) -> Learned:
        """Return the weights as they are."""
        return self.jumping.finish(sample)


def set_bits(
    rates: Float[Tensor, " component"], running: Float[Tensor, " component"]
) -> Float[Tensor, ""]:
    """Return the mean bits of active sets with these rates, by coins with the running ones."""
    coin = running.clamp(_RAREST, 1 - _RAREST)
    return -(rates * coin.log2() + (1 - rates) * (1 - coin).log2()).sum()


def magnitude_bits(
    forward: Forward, usage: Usage, threshold: Float[Tensor, " component"], *, step: float
) -> Float[Tensor, ""]:
    """Return the mean bits of a vector's magnitudes, each by its latent's Gaussian on the grid.

    Rates learn what a value at its threshold costs, which is what one more would cost.
    """
    assert forward.rates is not None
    latents, rates = forward.latents, forward.rates
    mean, variance = usage.mean, usage.variance + step**2
    at = latents.components
    apart = (latents.values - mean[at]).square() / variance[at]
    spread = 0.5 * (2 * math.pi * variance / step**2).log2()
    edge = (threshold - mean).square() / variance / (2 * math.log(2))
    more = (rates - rates.detach()) * edge
    return (rates * spread + more).sum() + apart.sum() / (2 * math.log(2) * len(latents))


def residual_bits(error: Float[Tensor, "batch target"], *, step: float) -> Float[Tensor, ""]:
    """Return the mean bits of a batch of errors, each coordinate by its own Gaussian on the grid.

    Its mean is zero, and it is no narrower than the grid.
    """
    variance = error.square().mean(dim=0) + step**2
    return 0.5 * (2 * math.pi * math.e * variance / step**2).log2().sum()
