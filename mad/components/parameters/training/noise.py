"""All random numbers of one step, drawn in one go and dealt out to its masked passes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mad.components.parameters.training import layout
from mad.components.parameters.training.plan import SpdPlan


@final
@dataclass(frozen=True)
class Noise:
    """Uniform numbers of a step: for each pass, of each layer the sources of masks.

    A layer's last column is of its delta component, where there is one. ``routing`` has one number
    for each layer and a last one for how many are masked.
    """

    stochastic: Mapping[str, Float[Tensor, "..."]]
    layerwise: Mapping[str, Float[Tensor, "..."]]
    subset: Mapping[str, Float[Tensor, "..."]]
    routing: Float[Tensor, "*place choice"] | None

    def routed(self, places: Mapping[str, Sequence[int]]) -> Mapping[str, Bool[Tensor, "..."]]:
        """Return where each layer is masked: in a random number of them, from 1 to all."""
        assert self.routing is not None
        uniform, layers = self.routing, len(places)
        count = (uniform[..., -1:] * layers).floor() + 1
        order = uniform[..., :-1].argsort(dim=-1).argsort(dim=-1)
        routed = order < count
        found = {}
        for number, (name, place) in enumerate(places.items()):
            one = routed[..., number]
            one = one.reshape(*one.shape, *[1] * (len(place) - one.ndim))
            found[name] = one.expand(*place).unsqueeze(-1)
        return found


@final
@dataclass(frozen=True)
class Demand:
    """How many numbers a step needs for batches of one shape; ``places`` are each layer's."""

    places: Mapping[str, tuple[int, ...]]
    widths: Mapping[str, int]
    passes: tuple[bool, bool, bool]

    @staticmethod
    def of(plan: SpdPlan, places: Mapping[str, tuple[int, ...]]) -> "Demand":
        """Return what a plan needs."""
        widths = {one.name: one.width + plan.delta for one in plan.layers}
        stochastic, layerwise, subset, _ = plan.outputs
        return Demand(places, widths, (stochastic > 0, layerwise > 0, subset > 0))

    def count(self) -> int:
        """Return how many numbers that is."""
        of_pass = sum(math.prod(shape) for shape in self._shapes.values())
        routing = math.prod(self._routing) if self.passes[-1] else 0
        return sum(self.passes) * of_pass + routing

    def drawn(self, generator: torch.Generator) -> Float[Tensor, " number"]:
        """Draw them."""
        return torch.rand(self.count(), generator=generator)

    def dealt(self, numbers: Float[Tensor, " number"]) -> Noise:
        """Deal numbers out; nothing is copied."""
        start = 0

        def next_of(shape: tuple[int, ...]) -> Tensor:
            nonlocal start
            start += math.prod(shape)
            return layout.dealt(numbers[start - math.prod(shape) : start], shape)

        dealt = [
            {name: next_of(shape) for name, shape in self._shapes.items()} if wanted else {}
            for wanted in self.passes
        ]
        stochastic, layerwise, subset = dealt
        routing = next_of(self._routing) if self.passes[-1] else None
        return Noise(stochastic, layerwise, subset, routing)

    @property
    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: (*place, self.widths[name]) for name, place in self.places.items()}

    @property
    def _routing(self) -> tuple[int, ...]:
        # Layers of the same positions are chosen at each; of others, for the input as a whole.
        all_places = list(self.places.values())
        is_same = all(place == all_places[0] for place in all_places)
        return (*(all_places[0] if is_same else all_places[0][:1]), len(all_places) + 1)
