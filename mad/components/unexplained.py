"""The decomposition without components: everything a site says is residual."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.pooling import Pooling, pool, unpool
from mad.types import Activations, Activity, Site, View


@final
@dataclass(frozen=True)
class Unexplained:
    """No components at one site; with a Gaussian residual code this is Mahalanobis distance."""

    site: Site
    pooling: Pooling = "auto"

    @property
    def sites(self) -> tuple[Site, ...]:
        """The one site."""
        return (self.site,)

    @property
    def views(self) -> Mapping[View, Site]:
        """The default view of the site."""
        return {self.site: self.site}

    @property
    def fingerprint(self) -> str:
        """The settings are all there is."""
        return f"unexplained {self.site} {self.pooling}"

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Leave everything over."""
        return {self.site: left_over(pool(activations[self.site], self.pooling))}

    def directions(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        components: Int64[Tensor, " entry"],
    ) -> Float[Tensor, "entry coordinate"]:
        """Return none, since there are no components to ask for."""
        return no_directions(components)

    def spread(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the positions as the pooling needs it."""
        return unpool(change.to(activations.dtype), activations, self.pooling)


def left_over(activation: Float[Tensor, "batch coordinate"]) -> Activity:
    """Use no components, so that all of the activation is residual."""
    nothing = torch.zeros(len(activation) + 1, dtype=torch.int64)
    return Activity(nothing, nothing[:0], activation.new_empty(0), activation, activation, 0)


def no_directions(components: Int64[Tensor, " entry"]) -> Float[Tensor, "entry coordinate"]:
    """Return those of a view without components; nobody has one to ask for."""
    assert components.numel() == 0
    return torch.zeros(0, 0)
