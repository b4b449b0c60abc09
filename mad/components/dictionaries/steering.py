"""A penalty's coefficient, moved in training until as many latents are active as were asked for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.latents import Latents

_FIRST = 0.2
"""A coefficient that costs a typical active latent a tenth of its magnitude."""

_PATIENCE = 15.0
"""Steps in which an activity e times too high makes the coefficient e times larger."""

_PUSH = 2.0
"""The power of how many times too high the activity is that the coefficient gets at once."""

_MOST = math.log(1e4)


@final
@dataclass
class Steering:
    """The coefficient that keeps ``wanted`` latents of a vector active on average.

    A coefficient that gives some sparsity at one site or width gives another elsewhere; a number of
    active latents means the same everywhere. The controller is proportional and integral in the
    logarithm of the activity: ``log c = held + push * log(active / wanted)``.
    """

    wanted: int
    held: Float[Tensor, ""] = field(default_factory=lambda: torch.tensor(math.log(_FIRST)))
    pushed: Float[Tensor, ""] = field(default_factory=lambda: torch.zeros(()))

    @property
    def coefficient(self) -> Float[Tensor, ""]:
        """What the penalty of the next batch is multiplied by."""
        return (self.held + self.pushed).exp()

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """What changes from step to step."""
        return {"held": self.held, "pushed": self.pushed}

    def saw(self, latents: Latents) -> None:
        """Move the coefficient after a batch."""
        active = latents.components.numel() / len(latents)
        excess = math.log(max(active, 0.01) / self.wanted)
        self.held.add_(max(-1.0, min(1.0, excess)) / _PATIENCE).clamp_(-_MOST, _MOST)
        self.pushed.fill_(_PUSH * excess)
