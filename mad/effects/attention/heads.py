"""Nodes that are the query, the key or the value of one head of an attention layer."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mad.effects.attention.base import Attention
from mad.effects.attention.mix import ROLES, Mix, Role
from mad.effects.base import Changes, References
from mad.effects.parts import alone, summed
from mad.types import Activations, Site


@final
@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of each head, at all positions together or at each by itself.

    Nodes count heads, or groups of heads where these share keys and values; with ``by_position``
    node ``t * heads + head`` is of position ``t``.
    """

    attention: Attention
    roles: tuple[Role, ...] = ROLES
    by_position: bool = False

    @property
    def sites(self) -> tuple[Site, ...]:
        """The attention's."""
        return self.attention.sites

    @property
    def differentiated(self) -> tuple[Site, ...]:
        """That of the mixture alone: the rest is worked out from there."""
        return (self.attention.slope_site,)

    def changes(self, seen: Activations, reference: References | None) -> tuple[Changes, ...]:
        """Put the reference's in the place of each; one entry a role; ConfigError as ``check``."""
        self.attention.check(seen)
        own = self.attention.mix(seen)
        other = None if reference is None else self.attention.mix(reference)
        return tuple(
            _Changes(
                self.attention,
                role,
                own,
                (-own.role(role) if other is None else other.role(role) - own.role(role)),
                self.by_position,
            )
            for role in self.roles
        )


@final
@dataclass(frozen=True)
class _Changes:
    """Differences of one role to the reference."""

    attention: Attention
    role: Role
    mix: Mix
    change: Float[Tensor, "batch own place wide"]
    by_position: bool

    @property
    def name(self) -> str:
        return f"{self.attention.name} {self.role}"

    @property
    def site(self) -> Site:
        return self.attention.site(self.role)

    @property
    def slope_site(self) -> Site:
        return self.attention.slope_site

    @property
    def rows(self) -> Int64[Tensor, " pair"]:
        return torch.arange(len(self.change)).repeat_interleave(self._nodes)

    @property
    def nodes(self) -> Int64[Tensor, " pair"]:
        return torch.arange(self._nodes).repeat(len(self.change))

    def added(self, pairs: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen ..."]:
        by_place = self.change.transpose(1, 2)
        change = alone(by_place, pairs, by_position=self.by_position).transpose(1, 2)
        return self.attention.added(self.role, self.mix.take(pairs // self._nodes), change)

    def estimates(
        self, gradients: Activations, *, through_softmax: bool
    ) -> Float64[Tensor, " pair"]:
        of_mixed = self.attention.of_mixed(gradients)
        if through_softmax:
            own = self.mix.effects(self.role, self.change, of_mixed, by_position=self.by_position)
        else:
            own = (self.change * self.mix.slope(self.role, of_mixed)).sum(dim=3).transpose(1, 2)
        return summed(own.double(), by_position=self.by_position)

    @cached_property
    def _nodes(self) -> int:
        return self.change.shape[1] * (self.change.shape[2] if self.by_position else 1)
