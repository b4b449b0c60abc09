"""What every description of an attention layer promises, whatever it computes its heads with."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mad.effects.attention.mix import Mix, Role
from mad.errors import ConfigError
from mad.types import Activations, Site


@runtime_checkable
class Attention(Protocol):
    """An attention layer of a model: where its queries, keys and values are, and its mixture."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites whose activations are needed."""
        ...

    @property
    def slope_site(self) -> Site:
        """The site whose gradient is that of the mixture."""
        ...

    def mix(self, activations: Activations) -> Mix:
        """Read queries, keys and values; ConfigError if they are none of so many heads."""
        ...

    def check(self, seen: Activations) -> None:
        """Raise ConfigError unless attention as described computes what the model computed."""
        ...

    def of_mixed(self, gradients: Activations) -> Float[Tensor, "batch head position carried"]:
        """Return the derivative by what each head mixes."""
        ...

    def site(self, role: Role) -> Site:
        """Return the site at which queries, keys or values are changed."""
        ...

    def added(
        self, role: Role, mix: Mix, change: Float[Tensor, "chosen own place wide"]
    ) -> Float[Tensor, "chosen ..."]:
        """Return what to add at that site, for these inputs, to change queries, keys or values."""
        ...

    def moved(
        self, site: Site, mix: Mix, added: Float[Tensor, "chosen ..."]
    ) -> Mapping[Role, Float[Tensor, "chosen own place wide"]]:
        """Return what something added at a site changes; nothing where it is no query and no key.

        Of a site that bears queries, keys and values in one, all three.
        """
        ...


def split_heads(
    found: Float[Tensor, "batch position coordinate"], heads: int
) -> Float[Tensor, "batch head position width"]:
    """Part coordinates among heads."""
    return found.reshape(*found.shape[:2], heads, -1).transpose(1, 2)


def joined_heads(
    found: Float[Tensor, "batch head position width"],
) -> Float[Tensor, "batch position coordinate"]:
    """Put heads side by side again."""
    return found.transpose(1, 2).flatten(2)


def check_same(
    name: str,
    found: Float[Tensor, "batch position coordinate"],
    own: Float[Tensor, "batch ..."],
) -> None:
    """Raise ConfigError unless what attention as described computes is what the model computed."""
    is_alike = found.shape == own.shape
    gap = float((found - own).norm() / own.norm().clamp_min(1e-30)) if is_alike else 1.0
    if not gap <= torch.finfo(own.dtype).eps ** 0.5:
        raise ConfigError(
            f"attention {name!r} does not compute softmax(q k' scale) v of the sites it names: "
            f"the model's own mixture differs by {gap:.1%}. Check heads, causal, scale and the "
            "order of query, key and value; rotated positions, masks of padding and norms of "
            "queries are not modelled, so leave such a layer out"
        )
