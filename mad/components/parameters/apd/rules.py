"""From an input's attributions to the components that it uses: each input by itself.

Training takes the largest attributions of a batch, so that what an input uses depends on its
companions. Here it is fixed thresholds that decide, taken from trusted inputs, or a fixed number.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mad.components.parameters.apd.attributions import most_of_each

Thresholds: TypeAlias = Literal["one", "each", "none"]
"""One threshold for all components, one for each, or none: then inputs use equally many."""


@final
@dataclass(frozen=True)
class Above:
    """A component is used where its attribution exceeds its own threshold."""

    thresholds: Float[Tensor, " component"]

    @staticmethod
    def of_all(found: Float[Tensor, "row component"], *, active: float) -> "Above":
        """Take the one threshold that leaves ``active`` components an input, on average.

        That is what the largest of a batch as large as ``found`` would be, made fixed.
        """
        at = _exceeded(found.reshape(-1, 1), int(active * len(found)))
        return Above(at.expand(found.shape[1]).clone())

    @staticmethod
    def of_each(found: Float[Tensor, "row component"], *, active: float) -> "Above":
        """Take a threshold for each component, so that all are used equally often."""
        return Above(_exceeded(found, int(active / found.shape[1] * len(found))))

    def __call__(self, found: Float[Tensor, "batch component"]) -> Bool[Tensor, "batch component"]:
        """Say what is used."""
        return found > self.thresholds


@final
@dataclass(frozen=True)
class Largest:
    """Each input uses the ``count`` components of largest attribution, if it is above zero."""

    count: int

    def __call__(self, found: Float[Tensor, "batch component"]) -> Bool[Tensor, "batch component"]:
        """Say what is used."""
        return (most_of_each(found, active=self.count) > 0) & (found > 0)


Rule: TypeAlias = Above | Largest


@final
@dataclass(frozen=True)
class Asked:
    """What a rule is asked to be: its sort, and how many components an input is to use."""

    thresholds: Thresholds
    active: float

    def fit(self, found: Float[Tensor, "row component"]) -> Rule:
        """Return the rule for attributions such as those found."""
        match self.thresholds:
            case "one":
                return Above.of_all(found, active=self.active)
            case "each":
                return Above.of_each(found, active=self.active)
            case "none":
                return Largest(int(self.active))


def _exceeded(found: Float[Tensor, "row column"], count: int) -> Float[Tensor, " column"]:
    """Return what ``count`` of each column exceed, of which none is below zero."""
    if count >= len(found):
        return torch.zeros(found.shape[1], dtype=found.dtype)
    return found.sort(dim=0, descending=True).values[count]
