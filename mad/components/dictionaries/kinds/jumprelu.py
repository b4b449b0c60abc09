"""JumpReLU: latents above thresholds of their own are active, at their full value.

Rajamanoharan et al. 2024, "Jumping ahead: improving reconstruction fidelity with JumpReLU sparse
autoencoders".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries import sparse
from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.dead import revival
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kernels import thresholded, to_unit_length
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.steering import Steering

BANDWIDTH = 0.5
"""Width of the kernel around a threshold, as a share of it; a fifth to all of it learn alike."""

_SPEED = 5.0
"""How many times faster than weights the logarithm of a threshold moves: in a thousand steps of
1e-3 Adam would move it by at most one otherwise, and the activity would still be falling."""

_SHARE = 0.1
"""The share of the squares that k active latents cost at a coefficient of one."""


@final
@dataclass(frozen=True)
class JumpReLUEncoder:
    """Those of ``u @ weight + bias`` that exceed their latent's threshold (equation 3).

    Also what BatchTopK, Matryoshka and description-length training come to. No threshold is below
    zero.
    """

    kind: ClassVar[str] = "jumprelu"

    weight: Float[Tensor, "source component"]
    bias: Float[Tensor, " component"]
    threshold: Float[Tensor, " component"]

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.bias.numel()

    def encode(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Return the latents of each vector that exceed their thresholds."""
        return thresholded(source, self.weight, self.bias, self.threshold)


@final
@dataclass
class Jumping:
    """Weights of thresholded latents while they are trained.

    A threshold is ``exp(5 * log_threshold)``, so that it stays above zero.
    """

    encoder: Float[Tensor, "source component"]
    encoder_bias: Float[Tensor, " component"]
    encoder_log_threshold: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]

    @staticmethod
    def begin(start: Start) -> "Jumping":
        """Own the first weights, with thresholds for the activity that is asked for."""
        own = start.owned()
        log_threshold = start.threshold.clamp_min(1e-3).log() / _SPEED
        return Jumping(
            encoder=own.encoder,
            encoder_bias=own.bias,
            encoder_log_threshold=torch.full_like(
                start.bias, float(log_threshold)
            ).requires_grad_(),
            decoder=own.decoder,
        )

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        return vars(self)

    @property
    def threshold(self) -> Float[Tensor, " component"]:
        """The thresholds, with gradients."""
        return (_SPEED * self.encoder_log_threshold).exp()

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the latents above their thresholds, and count them.

        Those a little below take part, at zero: what they would explain lowers their thresholds.
        """
        threshold = self.threshold
        with torch.no_grad():
            floor = threshold * (1 - BANDWIDTH / 2)
            near = thresholded(source, self.encoder, self.encoder_bias, floor)
        at = near.components
        before = entries(source, self.encoder, self.encoder_bias, near)
        values, gates = jump(before, threshold.index_select(0, at), BANDWIDTH)
        jumped = replace(near, values=values)
        share = gates.new_zeros(len(threshold)).index_add(0, at, gates) / len(source)
        return Forward(jumped.explained(self.decoder), jumped.kept(values != 0), rates=share)

    def revived(
        self, forward: Forward, batch: Examples, step: Step, *, most: int
    ) -> Float[Tensor, ""]:
        """Return how badly dead latents, of which there are some, explain the error."""
        before = batch.source @ self.encoder[:, step.dead] + self.encoder_bias[step.dead]
        error = batch.target - forward.explained
        return revival(before, step.dead, self.decoder, error, most=most)

    def finish(self) -> Learned:
        """Return the weights as they are."""
        weight, bias = self.encoder.detach(), self.encoder_bias.detach()
        encoder = JumpReLUEncoder(weight, bias, self.threshold.detach())
        return Learned(encoder, self.decoder.detach())


@final
@dataclass
class JumpReLULearner:
    """Trains a JumpReLU dictionary; each active latent costs what keeps k of them active."""

    weights: Jumping
    steering: Steering
    auxiliary_weight: float

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "JumpReLULearner":
        """Own the first weights."""
        steering = Steering(wanted=min(plan.k, start.bias.numel()))
        return JumpReLULearner(Jumping.begin(start), steering, plan.auxiliary_weight)

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        return self.weights.parameters

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The coefficient of the number of active latents."""
        return self.steering.buffers

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.weights.encoder_bias.numel()

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the latents above their thresholds."""
        return self.weights.forward(source)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Charge the number of active latents (equation 9), and let the dead explain the error."""
        assert forward.rates is not None
        wanted = self.steering.wanted
        charged = _SHARE * self.steering.coefficient * forward.rates.sum() / wanted
        if not step.dead.numel():
            return charged
        revived = self.weights.revived(forward, batch, step, most=2 * wanted)
        return charged + self.auxiliary_weight * revived

    def stepped(self, forward: Forward) -> None:
        """Keep directions at unit length, and steer."""
        to_unit_length(self.weights.decoder)
        self.steering.saw(forward.latents)

    def finish(self, sample: Examples) -> Learned:  # noqa: ARG002  # Learner
        """Return the weights as they are."""
        return self.weights.finish()


def entries(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    places: Latents,
) -> Float[Tensor, " entry"]:
    """Return ``source @ weight + bias`` at the entries of latents, with gradients."""
    at = places.components
    products = sparse.products(source, at, places.offsets, weight.T.contiguous())
    return products + bias.index_select(0, at)


def jump(
    before: Float[Tensor, " entry"], threshold: Float[Tensor, " entry"], bandwidth: float
) -> tuple[Float[Tensor, " entry"], Float[Tensor, " entry"]]:
    """Return values, which are zero up to the threshold, and gates, which are zero or one.

    Gradients of thresholds are those of expectations (equations 11 and 12 of the paper): with a
    kernel ``K`` that is one over its width within half a width of the threshold, ``-threshold * K``
    of a value and ``-K`` of a gate. Its width is the bandwidth times the threshold. Values pass
    gradients on where the gate is open, gates none.
    """
    is_open, edge = before > threshold, threshold.detach()
    width = bandwidth * edge
    kernel = ((before.detach() - edge).abs() < width / 2) / width
    # Zero, but for its gradient.
    moved = kernel * (threshold - edge)
    return torch.where(is_open, before, 0.0) - edge * moved, is_open.float() - moved
