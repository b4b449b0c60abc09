"""A parameter decomposition as components: which subcomponents of each layer an input needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, assert_never, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mad import tensors
from mad.components.dictionaries.latents import Latents
from mad.components.parameters.decomposed import DecomposedLayer, check_layer
from mad.components.parameters.importance import ImportanceFunction, ScalarImportance
from mad.components.parameters.intervals import Intervals
from mad.components.parameters.layers import MatrixLayer, bias_of, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.pooling import unpool
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site, View

PositionPooling: TypeAlias = Literal["mean", "last"]
"""What is described of a layer that answers at several positions: their mean, or the last.

Both are linear, so that shares add up; a maximum is not, and would leave its residual to chance.
"""


@final
@dataclass(frozen=True)
class ParameterDecomposition:
    """Subcomponents of several layers; each layer's matrix is a view of its own.

    Twins in consecutive matrices would spoil a joint code of their sets, so layers stay apart.

    A subcomponent is active where its causal importance exceeds ``threshold``, at any position. Its
    share of the layer's output is its inner activation times its row of ``u``: the magnitude is
    that times the row's length, the direction the row at length one. What the delta component and
    subcomponents that are not active write is the residual.
    """

    layers: tuple[DecomposedLayer, ...]
    threshold: float = 0.1
    pooling: PositionPooling = "mean"

    def __post_init__(self) -> None:
        assert 0.0 <= self.threshold < 1.0
        names = [layer.name for layer in self.layers]
        assert names
        assert len(set(names)) == len(names)

    @staticmethod
    def of(
        model: nn.Module,
        parts: Sequence[Subcomponents],
        *,
        threshold: float = 0.1,
        pooling: PositionPooling = "mean",
    ) -> "ParameterDecomposition":
        """Put subcomponents beside the layers of the model that they are pieces of."""
        layers = tuple(
            DecomposedLayer.of(
                one, matrix=matrix_of(model, one.layer), bias=bias_of(model, one.layer)
            )
            for one in parts
        )
        return ParameterDecomposition(layers, threshold, pooling)

    @property
    def sites(self) -> tuple[Site, ...]:
        """What comes out of each layer, and what goes into it."""
        return (*self.views, *(f"{layer.name}<" for layer in self.layers))

    @property
    def views(self) -> Mapping[View, Site]:
        """The default view of each layer's output."""
        return {layer.name: layer.name for layer in self.layers}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights and settings."""
        weights = {
            f"{layer.name}:{key}": tensor
            for layer in self.layers
            for key, tensor in layer.weights.items()
        }
        rest = [
            (one.parts.layer, one.parts.importance.kind, one.matrix_digest) for one in self.layers
        ]
        return tensors.digest(weights, note=f"parameters {self.threshold} {self.pooling} {rest}")

    def active(self, activations: Activations) -> Mapping[View, Bool[Tensor, "..."]]:
        """Say for each layer which subcomponents are active at each position.

        Axes are the batch, the positions if there are any, and the layer's components. This is the
        quick part of ``activity``: by thresholds where importance is of the scalar kind.
        """
        return {
            layer.name: rule(*_read(layer.parts, activations[f"{layer.name}<"]))
            for layer, rule in zip(self.layers, self._rules, strict=True)
        }

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Say what each input needs of each layer, and what the rest of the layer writes."""
        return {
            layer.name: self._activity(layer, rule, activations)
            for layer, rule in zip(self.layers, self._rules, strict=True)
        }

    def directions(
        self, view: View, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Return rows of ``u`` at length one."""
        return self._by_name[view].directions[components]

    def spread(
        self,
        view: View,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the positions as the pooling needs it."""
        layer = self._by_name[view].parts.layer
        change = change.to(activations.dtype)
        if activations.ndim == 2:  # noqa: PLR2004  # batch and coordinates
            return change
        if layer.window is not None:
            return unpool(change, activations, self.pooling)
        places = activations.flatten(1, -2)
        return unpool(change, places, self.pooling).reshape(activations.shape)

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model whose layers are not those that were decomposed.

        Raises:
            ConfigError: names the layer, and says what differs.
        """
        for layer in self.layers:
            check_layer(layer, model)

    @cached_property
    def _by_name(self) -> Mapping[View, DecomposedLayer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def _rules(self) -> tuple["_Rule", ...]:
        return tuple(_rule(layer.parts.importance, self.threshold) for layer in self.layers)

    def _activity(
        self, layer: DecomposedLayer, rule: "_Rule", activations: Activations
    ) -> Activity:
        given, written = activations[f"{layer.name}<"], activations[layer.name]
        inner, rows = _read(layer.parts, given)
        active = rule(inner, rows)
        shares = inner * layer.lengths
        if inner.ndim > 2:  # noqa: PLR2004  # positions
            active, shares = _pooled_shares(active, shares, self.pooling)
        latents = Latents.where(active, shares)
        activation = self._pooled(layer.parts.layer, written)
        left = activation - layer.bias - latents.explained(layer.directions)
        return Activity(
            offsets=latents.offsets,
            components=latents.components,
            magnitudes=latents.values,
            residual=left,
            activation=activation,
            num_components=layer.parts.width,
        )

    def _pooled(
        self, layer: MatrixLayer, written: Float[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch coordinate"]:
        if written.ndim == 2:  # noqa: PLR2004  # batch and coordinates
            return written.float()
        places = written.flatten(1, -2)
        if layer.window is not None:
            places = written.flatten(2).transpose(1, 2)
        match self.pooling:
            case "mean":
                return places.float().mean(dim=1)
            case "last":
                return places[:, -1].float()
            case never:
                assert_never(never)


_Rule: TypeAlias = Callable[
    [Float[Tensor, "*place component"], Float[Tensor, "*place source"] | None],
    Bool[Tensor, "*place component"],
]
"""Given inner activations, and the rows where importance sees them, says what is active."""


def _rule(importance: ImportanceFunction, threshold: float) -> _Rule:
    if isinstance(importance, ScalarImportance):
        intervals = Intervals.solve(importance, threshold=threshold)
        return lambda inner, _rows: intervals.active(inner)
    # A hard sigmoid exceeds a threshold below 1 where its logit does.
    return lambda inner, rows: importance.logits(inner, rows) > threshold


def _read(
    parts: Subcomponents, given: Float[Tensor, "batch ..."]
) -> tuple[Float[Tensor, "*place component"], Float[Tensor, "*place source"] | None]:
    """Return inner activations, and the rows themselves where importance sees them."""
    layer = parts.layer
    if layer.kind == "embedding":
        inner = layer.inner(given, parts.v)
        return inner, layer.rows(given) if parts.importance.needs_source else None
    rows = layer.rows(given.float())
    if rows.shape[-1] != layer.source:
        raise ConfigError(
            f"layer {layer.name!r} is given {rows.shape[-1]} coordinates, and its decomposition "
            f"reads {layer.source}: load the model that was decomposed, or train again"
        )
    return rows @ parts.v, rows if parts.importance.needs_source else None


def _pooled_shares(
    active: Bool[Tensor, "batch *place component"],
    shares: Float[Tensor, "batch *place component"],
    pooling: PositionPooling,
) -> tuple[Bool[Tensor, "batch component"], Float[Tensor, "batch component"]]:
    active, shares = active.flatten(1, -2), shares.flatten(1, -2)
    match pooling:
        case "last":
            return active[:, -1], shares[:, -1]
        case "mean":
            own = torch.where(active, shares, torch.zeros_like(shares))
            mean, is_used = own.mean(dim=1), (own != 0).any(dim=1)
            # Shares that cancel are still a use: one of no weight, as no magnitude may be zero.
            least = torch.full_like(mean, torch.finfo(mean.dtype).tiny)
            return is_used, torch.where(is_used & (mean == 0), least, mean)
        case never:
            assert_never(never)
