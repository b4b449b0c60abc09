"""Attention that torch computes: self-attention by ``nn.MultiheadAttention``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.model import MonitoredModel
from mad.effects.attention.base import check_same, joined_heads, split_heads
from mad.effects.attention.mix import ROLES, Mix, Role
from mad.errors import ConfigError
from mad.types import Activations, Site


@final
@dataclass(frozen=True)
class MultiheadAttention:
    """An ``nn.MultiheadAttention`` that attends within one sequence.

    It gives nothing of its queries, keys and values away, so they are computed again of what goes
    in, and a change of one is added to what comes out: to which it leads nowhere else.
    """

    name: Site
    heads: int
    is_causal: bool
    weight: Float[Tensor, "three_coordinates coordinate"]
    bias: Float[Tensor, " three_coordinates"]
    out_weight: Float[Tensor, "coordinate coordinate"]
    out_bias: Float[Tensor, " coordinate"]

    @staticmethod
    def of(model: MonitoredModel, name: str, *, is_causal: bool) -> "MultiheadAttention":
        """Read the weights of a module; ConfigError if it is none, or not like the usual ones."""
        module = dict(model.module.named_modules()).get(name)
        if not isinstance(module, nn.MultiheadAttention):
            raise ConfigError(
                f"{name!r} is no nn.MultiheadAttention of the model; name one, or the linear "
                "layers of another kind of attention as query, key, value and out"
            )
        unusual = {
            "batch_first = False": not module.batch_first,
            "kdim or vdim": not module._qkv_same_embed_dim,
            "add_bias_kv or add_zero_attn": module.bias_k is not None or module.add_zero_attn,
        }
        if found := [what for what, is_so in unusual.items() if is_so]:
            raise ConfigError(
                f"attention {name!r} is made with {found[0]}, which is not modelled; leave it out"
            )
        # Detached; a module without biases has none of these names.
        weights = module.state_dict()
        weight = weights["in_proj_weight"]
        return MultiheadAttention(
            name,
            module.num_heads,
            is_causal,
            weight,
            weights.get("in_proj_bias", weight.new_zeros(len(weight))),
            weights["out_proj.weight"],
            weights.get("out_proj.bias", weight.new_zeros(module.embed_dim)),
        )

    @property
    def sites(self) -> tuple[Site, ...]:
        """What goes in, and what comes out."""
        return (f"{self.name}<", self.name)

    @property
    def slope_site(self) -> Site:
        """What comes out."""
        return self.name

    def mix(self, activations: Activations) -> Mix:
        """Compute queries, keys and values of what goes in."""
        came = functional.linear(activations[self.sites[0]], self.weight, self.bias)
        query, key, value = (split_heads(part, self.heads) for part in came.chunk(3, dim=2))
        return Mix(query, key, value, self.is_causal, 1 / math.sqrt(query.shape[3]))

    def check(self, seen: Activations) -> None:
        """Compare with what comes out; ConfigError if it differs."""
        mixed = joined_heads(self.mix(seen).mixed())
        found = functional.linear(mixed, self.out_weight, self.out_bias)
        check_same(self.name, found, seen[self.name])

    def of_mixed(self, gradients: Activations) -> Float[Tensor, "batch head position carried"]:
        """Return the derivative by what each head mixes, through the output's weights."""
        return split_heads(gradients[self.name] @ self.out_weight, self.heads)

    def site(self, role: Role) -> Site:
        """Return the module: what it gives is changed as queries, keys or values would do it."""
        del role
        return self.name

    def added(
        self, role: Role, mix: Mix, change: Float[Tensor, "chosen own place wide"]
    ) -> Float[Tensor, "chosen position coordinate"]:
        """Return how what comes out changes."""
        moved = mix.changed(role, change).mixed() - mix.mixed()
        return joined_heads(moved) @ self.out_weight.T

    def moved(
        self, site: Site, mix: Mix, added: Float[Tensor, "chosen ..."]
    ) -> Mapping[Role, Float[Tensor, "chosen own place wide"]]:
        """Return nothing but of what goes in, which is the queries' when it is changed alone."""
        del mix
        if site != self.sites[0]:
            return {}
        of_query = self.weight.chunk(3)[ROLES.index("query")]
        return {"query": split_heads(added @ of_query.T, self.heads)}
