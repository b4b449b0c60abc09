"""A gated attention block: what an attention layer computes, as a sparse sum of its heads."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar, final

from jaxtyping import Float, Int64
from torch import Tensor

from mad import tensors
from mad.components.dictionaries.attention.heads import Heads, visible_pairs
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Look
from mad.components.pooling import pool, unpool
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site, View

_HEADS = "heads."


@final
@dataclass(frozen=True)
class AttentionBlock:
    """Heads that read a sequence, and add up to what an attention layer writes at its positions.

    It reads one site and explains another, both ``[batch, position, coordinate]``: as a rule what
    goes into an attention layer (``attention<``) and what comes out. A component is a head; it is
    active where its gates let anything through, and its magnitude is what it carries. A pooling of
    ``last`` explains the last position, ``mean`` the mean over positions. With ``is_causal`` no
    position attends to later ones. Positions count by what embeddings say of them; rotations of
    queries and keys, and masks of padding, are not modelled.
    """

    form: ClassVar[str] = "attention"

    look: Look
    heads: Heads
    source: Frame
    target: Frame
    is_causal: bool

    def __post_init__(self) -> None:
        assert len(self.look.reads) == len(self.look.writes) == 1
        if self.look.pooling not in ("auto", "last", "mean"):
            raise ConfigError(
                f"an attention block explains one position or the mean of all, not their "
                f"{self.look.pooling!r}; set pooling to 'last' or 'mean'"
            )

    @staticmethod
    def of(
        look: Look, weights: Mapping[str, Tensor], settings: Mapping[str, bool]
    ) -> "AttentionBlock":
        """Return the block of some weights; KeyError where one is missing."""
        heads = Heads(**{field.name: weights[_HEADS + field.name] for field in fields(Heads)})
        source, target = (
            Frame(weights[f"{name}.centre"], weights[f"{name}.scale"])
            for name in ("source", "target")
        )
        return AttentionBlock(look, heads, source, target, settings["is_causal"])

    @property
    def sites(self) -> tuple[Site, ...]:
        """The site explained, and the site read."""
        return self.look.sites

    @property
    def view(self) -> View:
        """The view that bears its components."""
        return self.look.view

    @property
    def views(self) -> Mapping[View, Site]:
        """The view of the site it explains."""
        return self.look.views

    @property
    def width(self) -> int:
        """The number of heads."""
        return self.heads.width

    @property
    def widths(self) -> tuple[int, ...]:
        """How many coordinates the site explained has."""
        return (self.heads.output.shape[1],)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The tensors, by name."""
        own = {f"{_HEADS}{field.name}": getattr(self.heads, field.name) for field in fields(Heads)}
        frames = {
            f"{name}.{part}": getattr(frame, part)
            for name, frame in (("source", self.source), ("target", self.target))
            for part in ("centre", "scale")
        }
        return {**own, **frames}

    @property
    def settings(self) -> Mapping[str, bool]:
        """What else it is made of."""
        return {"is_causal": self.is_causal}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights and settings."""
        note = f"{self.form} {dict(self.settings)} {self.look}"
        return tensors.digest(self.weights, note=note)

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Say which heads carried something, and leave over what they do not explain."""
        target = self._sequences(activations, self.look.writes[0], self.target)
        carried = self._carried(self._sequences(activations, self.look.reads[0], self.source))
        latents = Latents.where(carried != 0, carried)
        pooled = pool(target, self.look.pooling)
        return {
            self.view: Activity(
                offsets=latents.offsets,
                components=latents.components,
                magnitudes=latents.values,
                residual=pooled - self.target.restored(latents.explained(self.heads.output)),
                activation=pooled,
                num_components=self.width,
            )
        }

    def directions(
        self, view: View, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Return what the heads write, in the units of the activations."""
        assert view == self.view
        return self.target.scale * self.heads.output[components]

    def spread(
        self,
        view: View,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the positions as the pooling needs it."""
        assert view == self.view
        return unpool(change.to(activations.dtype), activations, self.look.pooling)

    def _carried(
        self, source: Float[Tensor, "batch position source"]
    ) -> Float[Tensor, "batch component"]:
        """Return what each head carries to what the look pools."""
        visible = visible_pairs(source.shape[1], is_causal=self.is_causal)
        keys = self.source.normalised(source.flatten(0, 1)).reshape(source.shape)
        if self.look.pooling == "mean":
            return self.heads.carried(keys, keys, visible).mean(dim=1)
        return self.heads.carried(keys[:, -1:], keys, visible[-1:])[:, 0]

    def _sequences(
        self, activations: Activations, site: Site, frame: Frame
    ) -> Float[Tensor, "batch position coordinate"]:
        found, wanted = activations[site], frame.centre.numel()
        if found.ndim != 3 or found.shape[2] != wanted:  # noqa: PLR2004  # a sequence
            raise ConfigError(
                f"site {site!r} gives {tuple(found.shape)}, and the attention block was trained on "
                f"sequences of {wanted} coordinates, [batch, position, coordinate]: train it again"
            )
        return found.float()
