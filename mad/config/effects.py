"""Settings of effects: what of a model helps to estimate them."""

from typing import Annotated, Self, final

from pydantic import Field, model_validator

from mad.config.fields import Count, Positive, Section


@final
class AttentionLayers(Section):
    """Attention layers of one kind: torch's own by ``module``, or by their linear layers."""

    module: str = ""
    query: str = ""
    key: str = ""
    value: str = ""
    out: str = ""
    heads: Count | None = None
    scale: Positive | None = None
    causal: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        linears = (self.query, self.key, self.value, self.out, self.heads)
        is_module = bool(self.module) and not any(linears) and self.scale is None
        if not is_module and (self.module or not all(linears)):
            raise ValueError(
                "name attention layers either by module, where they are nn.MultiheadAttention, or "
                "by query, key, value, out and heads, all five"
            )
        return self


@final
class Effects(Section):
    """Branches whose outputs are added to a residual stream, and attention layers."""

    branches: tuple[str, ...] = ()
    attention: tuple[AttentionLayers, ...] = ()
