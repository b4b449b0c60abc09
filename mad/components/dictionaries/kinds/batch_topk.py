"""BatchTopK: the largest latents of a whole batch are active, k a vector on average.

Bussmann, Leask and Nanda 2024, "BatchTopK sparse autoencoders". In use, where a vector's latents
must not depend on its companions, a threshold takes the batch's place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.dead import revival
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kernels import thresholded, to_unit_length
from mad.components.dictionaries.kinds.jumprelu import JumpReLUEncoder, entries
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan

_PIECE = 1_024
_FLOOR = 0.7
"""Share of the running threshold that hardly a batch's own is below."""

_MEMORY = 0.9
"""What the running threshold keeps of itself a step."""


@final
@dataclass
class BatchTopKLearner:
    """Trains a BatchTopK dictionary; dead latents learn what the others leave over.

    ``threshold`` is a running mean of what the last active latent of a batch exceeds. It only saves
    time: latents well below it need not be looked at.
    """

    encoder: Float[Tensor, "source component"]
    encoder_bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]
    k: int
    auxiliary_weight: float
    threshold: Float[Tensor, ""]

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "BatchTopKLearner":
        """Own the first weights."""
        own = start.owned()
        return BatchTopKLearner(
            encoder=own.encoder,
            encoder_bias=own.bias,
            decoder=own.decoder,
            k=min(plan.k, own.bias.numel()),
            auxiliary_weight=plan.auxiliary_weight,
            threshold=start.threshold.clone(),
        )

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        names = ("encoder", "encoder_bias", "decoder")
        return {name: getattr(self, name) for name in names}

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The running threshold."""
        return {"threshold": self.threshold}

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.encoder_bias.numel()

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the largest latents of the batch."""
        with torch.no_grad():
            places = self._largest(source)
        values = entries(source, self.encoder, self.encoder_bias, places)
        latents = replace(places, values=values)
        return Forward(latents.explained(self.decoder), latents)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Let the dead explain the error."""
        if not step.dead.numel():
            return torch.zeros(())
        before = batch.source @ self.encoder[:, step.dead] + self.encoder_bias[step.dead]
        error = batch.target - forward.explained
        return self.auxiliary_weight * revival(
            before, step.dead, self.decoder, error, most=2 * self.k
        )

    def stepped(self, forward: Forward) -> None:
        """Keep directions at unit length, and follow the threshold."""
        to_unit_length(self.decoder)
        values = forward.latents.values.detach()
        if values.numel():
            self.threshold.mul_(_MEMORY).add_((1 - _MEMORY) * values.min())

    def finish(self, sample: Examples) -> Learned:
        """Return the weights, with the one threshold that k latents of the sample exceed."""
        weight, bias = self.encoder.detach(), self.encoder_bias.detach()
        threshold = exceeded_by(sample.source, weight, bias, self.k)
        encoder = JumpReLUEncoder(weight, bias, threshold.expand_as(bias).clone())
        return Learned(encoder, self.decoder.detach())

    def _largest(self, source: Float[Tensor, "batch source"]) -> Latents:
        most = self.k * len(source)
        found = self._above(_FLOOR * self.threshold, source)
        if len(found.values) < most:
            found = self._above(torch.zeros_like(self.threshold), source)
        chosen = torch.zeros_like(found.values, dtype=torch.bool)
        chosen[found.values.topk(min(most, len(found.values)), sorted=False).indices] = True
        return found.kept(chosen)

    def _above(self, floor: Float[Tensor, ""], source: Float[Tensor, "batch source"]) -> Latents:
        least = floor.expand_as(self.encoder_bias)
        return thresholded(source, self.encoder, self.encoder_bias, least)


def exceeded_by(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    k: int,
) -> Float[Tensor, ""]:
    """Return the threshold that k latents of a vector exceed on average, zero if fewer are above.

    Exact but for ties: it lies halfway between the last latent above it and the next.
    """
    wanted = k * len(source)
    bound, largest = torch.zeros(()), torch.zeros(0)
    for piece in source.split(_PIECE):
        found = thresholded(piece, weight, bias, bound.expand_as(bias))
        largest = torch.cat([largest, found.values])
        if len(largest) > wanted:
            largest = largest.topk(wanted + 1, sorted=False).values
            bound = largest.min()
    return largest.topk(2, largest=False).values.mean() if len(largest) > wanted else bound
