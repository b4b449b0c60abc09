"""A model run with some of its matrices masked: the promise, and what it takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mad.components.parameters.subcomponents import Subcomponents


@final
@dataclass(frozen=True)
class Seen:
    """What one layer was given by the monitored model itself, and what it returned."""

    given: Shaped[Tensor, "..."]
    returned: Float[Tensor, "..."]


@final
@dataclass(frozen=True)
class Looked:
    """One run of the monitored model as it is; nothing of it has gradients."""

    output: Float[Tensor, "batch ..."]
    seen: Mapping[str, Seen]


@final
@dataclass(frozen=True)
class Mask:
    """What one layer's pieces are multiplied by.

    Without ``delta``, nothing of what the subcomponents miss takes part. Where it is not ``routed``
    the layer is left as it is; without ``routed`` it is masked everywhere.
    """

    subcomponents: Float[Tensor, "*place component"]
    delta: Float[Tensor, "*place 1"] | None
    routed: Bool[Tensor, "*place 1"] | None = None


@runtime_checkable
class Passes(Protocol):
    """A monitored model that can be run with masked layers. Law: it is never changed."""

    def look(self, batch: Shaped[Tensor, "batch ..."]) -> Looked:
        """Run the model as it is."""
        ...

    def inner(self, looked: Looked, piece: Subcomponents) -> Float[Tensor, "*place component"]:
        """Return inner activations of a layer, ``rows @ v``, in the model as it is."""
        ...

    def source(self, looked: Looked, piece: Subcomponents) -> Float[Tensor, "*place source"]:
        """Return the rows that a layer was given in the model as it is."""
        ...

    def masked(
        self,
        looked: Looked,
        batch: Shaped[Tensor, "batch ..."],
        inner: Mapping[str, Float[Tensor, "..."]],
        masks: Mapping[str, tuple[Subcomponents, Mask]],
    ) -> Float[Tensor, "batch ..."]:
        """Return the output with these layers masked; ``inner`` is of the model as it is."""
        ...
