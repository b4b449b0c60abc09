"""Causal importance: how much an input needs each subcomponent, as logits of one number each.

Importance is a hard sigmoid of a logit (SPD, arXiv:2506.20790, section 3); see ``sigmoids``.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@runtime_checkable
class ImportanceFunction(Protocol):
    """From a layer's input to logits of importance.

    A frozen dataclass whose fields are tensors: files and fingerprints are made of its fields. Law:
    the logits of a row do not depend on its companions.
    """

    kind: ClassVar[str]

    @property
    def width(self) -> int:
        """The number of subcomponents."""
        ...

    @property
    def needs_source(self) -> bool:
        """Whether logits depend on more of the input than inner activations."""
        ...

    def logits(
        self,
        inner: Float[Tensor, "*place component"],
        source: Float[Tensor, "*place source"] | None,
    ) -> Float[Tensor, "*place component"]:
        """Return logits from inner activations, and the rows themselves if it needs them."""
        ...


@final
@dataclass(frozen=True)
class ScalarImportance:
    """A network of its own for each subcomponent, which sees its inner activation alone (SPD)."""

    w_in: Float[Tensor, "component hidden"]
    b_in: Float[Tensor, "component hidden"]
    w_out: Float[Tensor, "component hidden"]
    b_out: Float[Tensor, " component"]
    kind: ClassVar[str] = "scalar"
    needs_source: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """The number of subcomponents."""
        return self.w_in.shape[0]

    def logits(
        self,
        inner: Float[Tensor, "*place component"],
        source: Float[Tensor, "*place source"] | None,  # noqa: ARG002  # ImportanceFunction
    ) -> Float[Tensor, "*place component"]:
        """Return ``w_out . gelu(inner * w_in + b_in) + b_out``."""
        hidden = functional.gelu(inner.unsqueeze(-1) * self.w_in + self.b_in)
        return (hidden * self.w_out).sum(dim=-1) + self.b_out


@final
@dataclass(frozen=True)
class VectorImportance:
    """A network of its own for each subcomponent, which sees the whole row."""

    w_in: Float[Tensor, "component source hidden"]
    b_in: Float[Tensor, "component hidden"]
    w_out: Float[Tensor, "component hidden"]
    b_out: Float[Tensor, " component"]
    kind: ClassVar[str] = "vector"
    needs_source: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """The number of subcomponents."""
        return self.w_in.shape[0]

    def logits(
        self,
        inner: Float[Tensor, "*place component"],  # noqa: ARG002  # ImportanceFunction
        source: Float[Tensor, "*place source"] | None,
    ) -> Float[Tensor, "*place component"]:
        """Return ``w_out . gelu(source @ w_in + b_in) + b_out``."""
        assert source is not None
        before = torch.einsum("...s,csh->...ch", source, self.w_in) + self.b_in
        return (functional.gelu(before) * self.w_out).sum(dim=-1) + self.b_out


@final
@dataclass(frozen=True)
class SharedImportance:
    """One network for all subcomponents of a layer, which sees the whole row."""

    w_in: Float[Tensor, "source hidden"]
    b_in: Float[Tensor, " hidden"]
    w_out: Float[Tensor, "hidden component"]
    b_out: Float[Tensor, " component"]
    kind: ClassVar[str] = "shared"
    needs_source: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """The number of subcomponents."""
        return self.w_out.shape[1]

    def logits(
        self,
        inner: Float[Tensor, "*place component"],  # noqa: ARG002  # ImportanceFunction
        source: Float[Tensor, "*place source"] | None,
    ) -> Float[Tensor, "*place component"]:
        """Return ``gelu(source @ w_in + b_in) @ w_out + b_out``."""
        assert source is not None
        hidden = functional.gelu(source @ self.w_in + self.b_in)
        return hidden @ self.w_out + self.b_out
