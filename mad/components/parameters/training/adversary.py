"""An adversary of the masks: sources that it keeps and moves to where the masked model fails.

Persistent projected gradient ascent (Bushnaq et al. 2026): Adam, then a clamp to [0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.parameters.sigmoids import lower_leaky
from mad.components.parameters.training.losses import Attempt
from mad.components.parameters.training.plan import SpdPlan

BETAS: Final = (0.5, 0.99)
WARM_UP: Final = 0.025
"""Share of the run in which the rate rises from zero."""


@final
@dataclass
class Adversary:
    """Sources of each layer with Adam's moments."""

    sources: dict[str, Float[Tensor, "..."]]
    plan: SpdPlan
    first: list[Tensor] = field(init=False)
    second: list[Tensor] = field(init=False)
    ascents: int = 0

    def __post_init__(self) -> None:
        self.first = [torch.zeros_like(one) for one in self.sources.values()]
        self.second = [torch.zeros_like(one) for one in self.sources.values()]

    @staticmethod
    def begin(
        plan: SpdPlan, places: Mapping[str, tuple[int, ...]], generator: torch.Generator
    ) -> "Adversary":
        """Draw sources: one set for all positions, or one for each position of a batch."""
        sources = {}
        for one in plan.layers:
            place = places[one.name] if plan.adversary_scope == "each" else ()
            sources[one.name] = torch.rand(*place, one.width + plan.delta, generator=generator)
        return Adversary(sources, plan)

    def attack(self, attempt: Attempt) -> None:
        """Climb a few times against pieces as they are."""
        importance = {name: lower_leaky(one).detach() for name, one in attempt.logits.items()}
        for _ in range(self.plan.adversary_steps):
            leaves = {name: one.detach().requires_grad_() for name, one in self.sources.items()}
            missed = attempt.missed(leaves, importance)
            self.ascend(torch.autograd.grad(missed, list(leaves.values())))

    def ascend(self, slopes: Sequence[Float[Tensor, "..."]]) -> None:
        """Take one step up."""
        self.ascents += 1
        each_step = self.plan.adversary_steps + 1
        risen = self.ascents / max(WARM_UP * self.plan.steps * each_step, 1.0)
        rate = self.plan.adversary_rate * min(1.0, risen)
        early, late = (1 - beta**self.ascents for beta in BETAS)
        moments = zip(self.sources.values(), slopes, self.first, self.second, strict=True)
        for source, slope, first, second in moments:
            first.lerp_(slope, 1 - BETAS[0])
            second.lerp_(slope.square(), 1 - BETAS[1])
            step = (first / early) / ((second / late).sqrt() + 1e-12)
            source.add_(step, alpha=rate).clamp_(0.0, 1.0)

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Everything that an ascent changes."""
        return {
            **{f"source.{number}": one for number, one in enumerate(self.sources.values())},
            **{f"first.{number}": one for number, one in enumerate(self.first)},
            **{f"second.{number}": one for number, one in enumerate(self.second)},
            "ascents": torch.tensor(self.ascents),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self.ascents = int(state["ascents"])
        for name, one in self.state.items():
            if name != "ascents":
                one.copy_(state[name])
