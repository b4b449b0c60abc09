"""A sparse dictionary: an encoder, directions, and the sites between which they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

from jaxtyping import Float, Int64
from torch import Tensor

from mad import tensors
from mad.components.dictionaries.base import Encoder
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.kinds.registry import taken_apart
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples, Look
from mad.components.pooling import unpool
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site, View


@final
@dataclass(frozen=True)
class Dictionary:
    """Latents of what is read, and the directions that add up to what is explained.

    With ``u`` the normalised source, the reconstruction is ``target.restored(latents(u) @ decoder +
    u @ skip)``; the residual is what it misses, in the units of the activations. Of an autoencoder
    the two frames are one. Of a crosscoder, which explains several sites (of ``widths``
    coordinates), the first view bears the components, so that a set is described once, and the
    others what is left over there. Where the target's frame normalises each vector by itself, a
    magnitude is the latent times the vector's factor, so that it is a share of the activation.
    """

    look: Look
    encoder: Encoder
    decoder: Float[Tensor, "component target"]
    source: Frame
    target: Frame
    widths: tuple[int, ...]
    skip: Float[Tensor, "source target"] | None = None

    def __post_init__(self) -> None:
        assert len(self.widths) == len(self.look.writes)
        assert sum(self.widths) == self.decoder.shape[1]
        assert self.encoder.width == self.decoder.shape[0]
        # What a rule took out of a vector is only known of vectors that are read.
        assert self.target.rows in ("none", self.source.rows if self.look.is_own else "none")

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site it needs."""
        return self.look.sites

    @property
    def view(self) -> View:
        """The view that bears its components."""
        return self.look.view

    @property
    def views(self) -> Mapping[View, Site]:
        """A view of each site it explains."""
        return self.look.views

    @property
    def width(self) -> int:
        """The number of latents."""
        return self.encoder.width

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The tensors, by name."""
        encoder, _ = taken_apart(self.encoder)
        frames = {
            f"{name}.{part}": getattr(getattr(self, name), part)
            for name in (("source",) if self.target is self.source else ("source", "target"))
            for part in ("centre", "scale")
        }
        skip = {} if self.skip is None else {"skip": self.skip}
        return {**encoder, "decoder": self.decoder, **frames, **skip}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights and settings."""
        _, settings = taken_apart(self.encoder)
        ruled = {self.source.rows, self.target.rows} != {"none"}
        rows = f" {self.source.rows} {self.target.rows}" if ruled else ""
        return tensors.digest(self.weights, note=f"{settings} {self.look} {self.widths}{rows}")

    def latents(self, activations: Activations) -> Latents:
        """Encode what is read; ConfigError where it has another width than was trained on."""
        return self._encode(self.look.examples(activations))

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Encode what is read, and leave over what is not explained of each site."""
        examples = self.look.examples(activations)
        latents = self._encode(examples)
        left = examples.target - self._explained(examples, latents)
        residuals, owned = self._by_view(left), self._by_view(examples.target)
        shares = latents
        if self.target.rows != "none":
            shares = latents.scaled(self.target.factors(examples.target))
        bare = [Latents.none(len(latents)) for _ in self.widths[1:]]
        return {
            view: Activity(
                offsets=held.offsets,
                components=held.components,
                magnitudes=held.values,
                residual=residual,
                activation=activation,
                num_components=self.width if held is shares else 0,
            )
            for view, held, residual, activation in zip(
                self.views,
                [shares, *bare],
                residuals,
                owned,
                strict=True,
            )
        }

    def directions(
        self, view: View, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Return the latents' decoder directions, in the units of the activations."""
        place = list(self.views).index(view)
        start = sum(self.widths[:place])
        own = slice(start, start + self.widths[place])
        scale = self.target.scale.expand(self.decoder.shape[1])
        return scale[own] * self.decoder[components, own]

    def spread(
        self,
        view: View,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the positions as the pooling needs it."""
        assert view in self.views
        return unpool(change.to(activations.dtype), activations, self.look.pooling)

    def _by_view(
        self, vectors: Float[Tensor, "batch target"]
    ) -> tuple[Float[Tensor, "batch _"], ...]:
        return vectors.split(self.widths, dim=1) if len(self.widths) > 1 else (vectors,)

    def _encode(self, examples: Examples) -> Latents:
        for vectors, frame, sites in (
            (examples.source, self.source, self.look.reads),
            (examples.target, self.target, self.look.writes),
        ):
            if vectors.shape[1] != frame.centre.numel():
                raise ConfigError(
                    f"site {', '.join(map(repr, sites))} gives {vectors.shape[1]} coordinates "
                    f"after {self.look.pooling} pooling; the dictionary was "
                    f"trained on {frame.centre.numel()}: train it again"
                )
        return self.encoder.encode(self.source.normalised(examples.source))

    def _explained(self, examples: Examples, latents: Latents) -> Float[Tensor, "batch target"]:
        explained = latents.explained(self.decoder)
        if self.skip is not None:
            explained = explained + self.source.normalised(examples.source) @ self.skip
        return self.target.restored(explained, examples.target)
