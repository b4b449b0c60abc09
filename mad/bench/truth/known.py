"""The decomposition that the truth itself gives: what a perfect one would see in a stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mad.bench.truth.network import Built
from mad.components.dictionaries.latents import Latents
from mad.components.pooling import unpool
from mad.tensors import digest
from mad.types import Activations, Activity, Site, View


@final
@dataclass(frozen=True)
class Known:
    """Mechanisms as orthogonal directions of one site, on where the site lies along them.

    ``wires`` has a direction of length one for each.
    """

    site: Site
    wires: Float[Tensor, "mechanism coordinate"]

    @staticmethod
    def of_circuit(built: Built) -> "Known":
        """Take the wires of a circuit's gates in the last stream, to which all of them write."""
        inputs = built.module.embed.in_features
        return Known(f"streams.{len(built.module.blocks) - 1}", built.directions[inputs:])

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
        """A hash of the directions."""
        return digest({"wires": self.wires}, note=self.site)

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Return the mechanisms that are on, each with how far it moves the site."""
        x = activations[self.site]
        strength = x @ self.wires.T
        is_on = strength > 0.5  # noqa: PLR2004  # mechanisms are zero or one
        rest = x - (strength * is_on) @ self.wires
        return {self.site: activity_of(is_on, strength, residual=rest, activation=x)}

    def directions(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        components: Int64[Tensor, " entry"],
    ) -> Float[Tensor, "entry coordinate"]:
        """Return the directions."""
        return self.wires[components]

    def spread(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the site as asked."""
        return unpool(change.to(activations.dtype), activations, "flatten")


def activity_of(
    is_on: Bool[Tensor, "batch mechanism"],
    strength: Float[Tensor, "batch mechanism"],
    *,
    residual: Float[Tensor, "batch coordinate"],
    activation: Float[Tensor, "batch coordinate"],
) -> Activity:
    """Return what is on, as sparse rows."""
    used = Latents.where(is_on, strength)
    sparse = (used.offsets, used.components, used.values)
    return Activity(*sparse, residual, activation, is_on.shape[1])
