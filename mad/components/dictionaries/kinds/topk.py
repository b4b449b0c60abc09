"""TopK: the k largest latents of each vector are active (Gao et al. 2024, equation 2)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.base import Forward, Learned, Step
from mad.components.dictionaries.dead import revival_by
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kernels import (
    by_component,
    largest,
    largest_among,
    to_unit_length,
)
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan


@final
@dataclass(frozen=True)
class TopKEncoder:
    """The ``k`` largest of ``u @ weight + bias``, where they are above zero."""

    kind: ClassVar[str] = "topk"

    weight: Float[Tensor, "source component"]
    bias: Float[Tensor, " component"]
    k: int

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.bias.numel()

    def encode(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Return the largest latents of each vector."""
        values, components = largest(source, self.weight, self.bias, self.k)
        return Latents.chosen(values.relu(), components)


@final
@dataclass
class TopKLearner:
    """Trains a TopK dictionary; dead latents learn what the others leave over."""

    encoder: Float[Tensor, "source component"]
    encoder_bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]
    k: int
    auxiliary_weight: float
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def begin(start: Start, plan: DictionaryPlan) -> "TopKLearner":
        """Own the first weights."""
        own = start.owned()
        k = min(plan.k, own.bias.numel())
        encoder = by_component(own.encoder.detach()).requires_grad_()
        return TopKLearner(encoder, own.bias, own.decoder, k, plan.auxiliary_weight)

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights."""
        names = ("encoder", "encoder_bias", "decoder")
        return {name: getattr(self, name) for name in names}

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.encoder_bias.numel()

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct from the largest latents."""
        values, components = largest(source, self.encoder, self.encoder_bias, self.k)
        latents = Latents.chosen(values.relu(), components)
        return Forward(latents.explained(self.decoder), latents)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Let the dead explain the error."""
        if not step.dead.numel():
            return torch.zeros(())
        values, components = largest_among(
            batch.source, self.encoder, self.encoder_bias, step.dead, 2 * self.k
        )
        error = batch.target - forward.explained
        return self.auxiliary_weight * revival_by(values, components, self.decoder, error)

    def stepped(self, forward: Forward) -> None:  # noqa: ARG002  # Learner
        """Keep directions at unit length."""
        to_unit_length(self.decoder)

    def finish(self, sample: Examples) -> Learned:  # noqa: ARG002  # Learner
        """Return the weights as they are."""
        weight, bias = self.encoder.detach(), self.encoder_bias.detach()
        return Learned(TopKEncoder(weight, bias, self.k), self.decoder.detach())
