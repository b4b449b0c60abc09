"""Attention described by the names of its linear layers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mad.effects.attention.base import check_same, joined_heads, split_heads
from mad.effects.attention.mix import ROLES, Mix, Role
from mad.errors import ConfigError
from mad.types import Activations, Site


@final
@dataclass(frozen=True)
class LinearAttention:
    """Attention whose queries, keys and values are what three linear layers give.

    Or one layer for all, named three times, which gives them side by side in this order. ``out`` is
    the linear layer that reads what the heads mix. Keys and values may be of fewer heads, which
    several queries share. ``scale`` is of the likeness of queries and keys; None for one over the
    root of a head's width.
    """

    query: Site
    key: Site
    value: Site
    out: str
    heads: int
    is_causal: bool
    scale: float | None = None

    @property
    def name(self) -> str:
        """The module that queries, keys and values have in common."""
        parts = [site.split(".") for site in (self.query, self.key, self.value, self.out)]
        common = [names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1]
        return ".".join(common) or self.query

    @property
    def sites(self) -> tuple[Site, ...]:
        """What gives queries, keys and values, and what goes into the output."""
        return tuple(dict.fromkeys((self.query, self.key, self.value, self.slope_site)))

    @property
    def slope_site(self) -> Site:
        """What goes into the output."""
        return f"{self.out}<"

    def mix(self, activations: Activations) -> Mix:
        """Read queries, keys and values; ConfigError if they are none of so many heads."""
        found = {role: self._read(activations, role) for role in ROLES}
        width = found["query"].shape[2] // self.heads
        groups, left = divmod(found["key"].shape[2], max(width, 1))
        if found["query"].shape[2] % self.heads or left or not groups or self.heads % groups:
            raise ConfigError(
                f"attention {self.name!r}: {found['query'].shape[2]} coordinates of queries and "
                f"{found['key'].shape[2]} of keys are not those of {self.heads} heads; set heads"
            )
        query, key, value = (
            split_heads(found[role], self.heads if role == "query" else groups) for role in ROLES
        )
        scale = self.scale if self.scale is not None else 1 / math.sqrt(width)
        return Mix(query, key, value, self.is_causal, scale)

    def check(self, seen: Activations) -> None:
        """Compare with what goes into the output; ConfigError if it differs."""
        check_same(self.name, joined_heads(self.mix(seen).mixed()), seen[self.slope_site])

    def of_mixed(self, gradients: Activations) -> Float[Tensor, "batch head position carried"]:
        """Return the derivative by what each head mixes, which is what goes into the output."""
        return split_heads(gradients[self.slope_site], self.heads)

    def site(self, role: Role) -> Site:
        """Return the linear layer that gives queries, keys or values."""
        return {"query": self.query, "key": self.key, "value": self.value}[role]

    def added(
        self, role: Role, mix: Mix, change: Float[Tensor, "chosen own place wide"]
    ) -> Float[Tensor, "chosen place coordinate"]:
        """Return the change as the linear layer's output has it."""
        del mix
        own = joined_heads(change)
        if not self._is_packed:
            return own
        place = ROLES.index(role) * own.shape[2]
        return functional.pad(own, (place, 2 * own.shape[2] - place))

    def moved(
        self, site: Site, mix: Mix, added: Float[Tensor, "chosen ..."]
    ) -> Mapping[Role, Float[Tensor, "chosen own place wide"]]:
        """Return what is added to queries and keys; nothing elsewhere, as values only add up."""
        roles = [role for role in ROLES if self.site(role) == site]
        if roles in ([], ["value"]):
            return {}
        return {
            role: split_heads(self._own(added, role), mix.role(role).shape[1]) for role in roles
        }

    @property
    def _is_packed(self) -> bool:
        return self.query == self.key == self.value

    def _read(
        self, activations: Activations, role: Role
    ) -> Float[Tensor, "batch position coordinate"]:
        found = activations[self.site(role)]
        if found.ndim != 3 or (self._is_packed and found.shape[2] % 3):  # noqa: PLR2004  # sequences
            raise ConfigError(
                f"attention {self.name!r}: site {self.site(role)!r} gives {tuple(found.shape)}, "
                f"which are no {role} vectors, [batch, position, coordinate]; name the linear "
                "layer that gives them"
            )
        return self._own(found, role)

    def _own(
        self, found: Float[Tensor, "batch position coordinate"], role: Role
    ) -> Float[Tensor, "batch position part"]:
        """Return the third of a common layer's output, or all of an own one's."""
        return found.chunk(3, dim=2)[ROLES.index(role)] if self._is_packed else found
