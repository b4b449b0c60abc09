"""The TopK sparse autoencoder: the k largest latents of each input are its components."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad import tensors
from mad.components.pooling import Pooling, pool, unpool
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site, View, view_of


@final
@dataclass(frozen=True)
class TopKDictionary:
    """A TopK sparse autoencoder of one view of a site (Gao et al. 2024, equation 2).

    With ``u = (x - centre) / scale`` the latents are the ``k`` largest of
    ``relu(u @ encoder + bias)``, the reconstruction is ``centre + scale * latents @ decoder``, and
    the residual is what it misses, in the units of the activations. ``suffix`` names the view
    where it is not the site's default one.
    """

    site: Site
    pooling: Pooling
    k: int
    encoder: Float[Tensor, "coordinate component"]
    bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component coordinate"]
    centre: Float[Tensor, " coordinate"]
    scale: Float[Tensor, ""]
    suffix: str = ""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The one site this dictionary reads."""
        return (self.site,)

    @property
    def view(self) -> View:
        """The name of its view."""
        return view_of(self.site, self.suffix)

    @property
    def views(self) -> Mapping[View, Site]:
        """The one view, of its site."""
        return {self.view: self.site}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights and settings."""
        return tensors.digest(self.weights, note=f"topk {self.view} {self.pooling} {self.k}")

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The tensors, by name."""
        names = ("encoder", "bias", "decoder", "centre", "scale")
        return {name: getattr(self, name) for name in names}

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Encode the site's activations; a latent that the rectifier silences is not active."""
        # Models of half or double precision are read in the precision of the dictionary.
        x = pool(activations[self.site], self.pooling).to(self.centre.dtype)
        if x.shape[1] != self.centre.numel():
            raise ConfigError(
                f"site {self.site!r} gives {x.shape[1]} coordinates after {self.pooling} pooling; "
                f"its dictionary was trained on {self.centre.numel()}: train it again"
            )
        values, components = self.latents((x - self.centre) / self.scale)
        active = values > 0
        counts = functional.pad(active.sum(dim=1), (1, 0))
        activity = Activity(
            offsets=counts.cumsum(dim=0),
            components=components[active],
            magnitudes=values[active],
            residual=x - self.centre - self.scale * self.explained(values, components),
            activation=x,
            num_components=self.bias.numel(),
        )
        return {self.view: activity}

    def directions(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        components: Int64[Tensor, " entry"],
    ) -> Float[Tensor, "entry coordinate"]:
        """Return the latents' decoder directions, in the units of the activations."""
        return self.scale * self.decoder[components]

    def spread(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the positions as the pooling needs it."""
        return unpool(change.to(activations.dtype), activations, self.pooling)

    def latents(
        self, normalised: Float[Tensor, "batch coordinate"]
    ) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
        """Return the k largest latents of each input and their components, ascending."""
        values, components = torch.topk(normalised @ self.encoder + self.bias, self.k, dim=1)
        components, order = components.sort(dim=1)
        return values.relu().gather(1, order), components

    def explained(
        self, values: Float[Tensor, "batch k"], components: Int64[Tensor, "batch k"]
    ) -> Float[Tensor, "batch coordinate"]:
        """Return what latents add up to, normalised."""
        return functional.embedding_bag(
            components, self.decoder, per_sample_weights=values, mode="sum"
        )
