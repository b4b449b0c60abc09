"""Gated latents: one half decides which are active, the other how strongly.

Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.dead import lift, revival
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kernels import thresholded, to_unit_length
from mad.components.dictionaries.kinds.relu import typical_magnitude
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.missed import missed_share
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.steering import Steering


@final
@dataclass(frozen=True)
class GatedEncoder:
    """``relu(v * exp(log_gain) + magnitude_bias)`` where ``v + gate_bias > 0``; ``v = u @ weight``.

    Equations 6 and 7 of the paper: gate and magnitude share their directions.
    """

    kind: ClassVar[str] = "gated"

    weight: Float[Tensor, "source component"]
    gate_bias: Float[Tensor, " component"]
    log_gain: Float[Tensor, " component"]
    magnitude_bias: Float[Tensor, " component"]

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.gate_bias.numel()

    def encode(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Return the latents of each vector whose gates are open."""
        return self.passed(self.gates(source))

    def gates(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Return the open gates of each vector, and how far they are open."""
        return thresholded(source, self.weight, self.gate_bias, torch.zeros(self.width))

    def passed(self, gates: Latents) -> Latents:
        """Return the latents that open gates let pass, those above zero."""
        at = gates.components
        directed = gates.values - self.gate_bias[at]
        magnitudes = directed * self.log_gain.exp()[at] + self.magnitude_bias[at]
        return replace(gates, values=magnitudes).kept(magnitudes > 0)


@final
@dataclass
class GatedLearner:
    """Trains a gated dictionary; the penalty falls on the gates, so that magnitudes do not shrink.

    The gates' own values, rectified, must explain the target too, by directions taken as given
    (equation 8): else nothing but the penalty would teach them.
    """

    encoder: Float[Tensor, "source component"]
    encoder_gate_bias: Float[Tensor, " component"]
    encoder_log_gain: Float[Tensor, " component"]
    encoder_magnitude_bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]
    steering: Steering
    auxiliary_weight: float
    widths: tuple[int, ...]

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "GatedLearner":
        """Own the first weights, with the activity that is asked for."""
        own = start.owned()
        return GatedLearner(
            encoder=own.encoder,
            encoder_gate_bias=(start.bias - start.threshold).requires_grad_(),
            encoder_log_gain=torch.zeros_like(start.bias).requires_grad_(),
            encoder_magnitude_bias=own.bias,
            decoder=own.decoder,
            steering=Steering(wanted=min(plan.k, own.bias.numel())),
            auxiliary_weight=plan.auxiliary_weight,
            widths=start.widths,
        )

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        names = ("encoder", "encoder_gate_bias", "encoder_log_gain", "encoder_magnitude_bias")
        return {name: getattr(self, name) for name in (*names, "decoder")}

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The penalty's coefficient."""
        return self.steering.buffers

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.encoder_gate_bias.numel()

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the latents whose gates are open."""
        gates = self._encoder.gates(source)
        latents = self._encoder.passed(gates)
        return Forward(latents.explained(self.decoder), latents, gates=gates)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Charge open gates, let them explain the target, and the dead the error."""
        gates = forward.gates
        assert gates is not None
        typical = typical_magnitude(batch, self.steering.wanted)
        charged = gates.values.sum() / (typical * len(batch) * self.steering.wanted)
        lost = missed_share(gates.explained(self.decoder.detach()), batch.target)
        total = self.steering.coefficient * charged + lost
        if not step.dead.numel():
            return total
        before = batch.source @ self.encoder[:, step.dead]
        error = batch.target - forward.explained
        most = 2 * self.steering.wanted
        revived = revival(before, step.dead, self.decoder, error, most=most)
        return total + self.auxiliary_weight * (revived + lift(self.encoder_gate_bias, step.dead))

    def stepped(self, forward: Forward) -> None:
        """Keep directions at unit length, and steer."""
        to_unit_length(self.decoder, self.widths)
        self.steering.saw(forward.latents)

    def finish(self, sample: Examples) -> Learned:  # noqa: ARG002  # Learner
        """Return the weights as they are."""
        own = {name: one.detach() for name, one in vars(self._encoder).items()}
        return Learned(GatedEncoder(**own), self.decoder.detach())

    @property
    def _encoder(self) -> GatedEncoder:
        return GatedEncoder(
            weight=self.encoder,
            gate_bias=self.encoder_gate_bias,
            log_gain=self.encoder_log_gain,
            magnitude_bias=self.encoder_magnitude_bias,
        )
