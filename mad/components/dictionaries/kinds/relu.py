"""ReLU with an L1 penalty on magnitudes (Bricken et al. 2023), steered to a number of latents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.dead import lift, revival
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kernels import thresholded, to_unit_length
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.missed import mean_squares
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.shrinkage import gains, relative_bias
from mad.components.dictionaries.steering import Steering

Cost: TypeAlias = Callable[[Tensor, float], Tensor]
"""What a magnitude costs, in units of a typical one, at a share of the training done."""


@final
@dataclass(frozen=True)
class ReLUEncoder:
    """All of ``u @ weight + bias`` that is above zero.

    ``shrunk`` is the relative bias of reconstructions that training left and these weights make
    good: 1 where there was none, or none was measured.
    """

    kind: ClassVar[str] = "relu"

    weight: Float[Tensor, "source component"]
    bias: Float[Tensor, " component"]
    shrunk: float = 1.0

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.bias.numel()

    def encode(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Return the latents of each vector that are above zero."""
        return thresholded(source, self.weight, self.bias, torch.zeros(self.width))


@final
@dataclass
class ReLULearner:
    """Trains a ReLU dictionary under a cost of each magnitude.

    The penalty is ``c * sum_j cost(z_j / s) / k`` where ``s`` is the size that k equal latents of a
    vector have; ``c`` is steered. Directions have unit length, so that magnitudes cannot hide in
    them.
    """

    encoder: Float[Tensor, "source component"]
    encoder_bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]
    steering: Steering
    cost: Cost
    auxiliary_weight: float
    widths: tuple[int, ...]

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "ReLULearner":
        """Own the first weights; magnitudes cost what they are."""
        return ReLULearner.costing(start, plan, cost=lambda magnitudes, _: magnitudes)

    @staticmethod
    def costing(start: Start, plan: DictionaryPlan, *, cost: Cost) -> "ReLULearner":
        """Own the first weights, with the activity that is asked for."""
        own = start.owned()
        with torch.no_grad():
            own.bias.sub_(start.threshold).mul_(start.stretch)
            own.encoder.mul_(start.stretch)
        steering = Steering(wanted=min(plan.k, own.bias.numel()))
        return ReLULearner(
            own.encoder,
            own.bias,
            own.decoder,
            steering,
            cost,
            plan.auxiliary_weight,
            start.widths,
        )

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        names = ("encoder", "encoder_bias", "decoder")
        return {name: getattr(self, name) for name in names}

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The penalty's coefficient."""
        return self.steering.buffers

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.encoder_bias.numel()

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the latents above zero."""
        latents = ReLUEncoder(self.encoder, self.encoder_bias).encode(source)
        return Forward(latents.explained(self.decoder), latents)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Charge the magnitudes, and let the dead explain the error."""
        typical = typical_magnitude(batch, self.steering.wanted)
        costs = self.cost(forward.latents.values / typical, step.progress).sum()
        charged = self.steering.coefficient * costs / (len(batch) * self.steering.wanted)
        if not step.dead.numel():
            return charged
        # As it would be with a bias like that of the living.
        usual = self.encoder_bias.detach().median()
        before = batch.source @ self.encoder[:, step.dead] + usual
        error = batch.target - forward.explained
        most = 2 * self.steering.wanted
        revived = revival(before, step.dead, self.decoder, error, most=most)
        return charged + self.auxiliary_weight * (revived + lift(self.encoder_bias, step.dead))

    def stepped(self, forward: Forward) -> None:
        """Keep directions at unit length, and steer."""
        to_unit_length(self.decoder, self.widths)
        self.steering.saw(forward.latents)

    def finish(self, sample: Examples) -> Learned:
        """Return the weights, with gains that make good what the penalty took."""
        weight, bias = self.encoder.detach(), self.encoder_bias.detach()
        decoder = self.decoder.detach()
        latents = ReLUEncoder(weight, bias).encode(sample.source)
        gain = gains(latents, decoder, sample.target)
        shrunk = float(relative_bias(latents.explained(decoder), sample.target))
        return Learned(ReLUEncoder(weight * gain, bias * gain, shrunk), decoder)


def typical_magnitude(batch: Examples, active: int) -> Float[Tensor, ""]:
    """Return how large the latents of a vector are where it is the sum of equal orthogonal ones."""
    return (mean_squares(batch.target) / active).sqrt()
