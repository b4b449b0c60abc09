"""Nodes that are parts of a site's output: the whole, heads, coordinates, at a position or all."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mad.effects.base import Changes, References
from mad.errors import ConfigError
from mad.types import Activations, Site

_SEQUENCE = 3


@final
@dataclass(frozen=True)
class Parts:
    """A site's output in ``parts`` equal pieces of its features, each of them a node.

    One is the whole; as many as there are features are the coordinates; as many as heads are what
    heads say, at a site that has them side by side. None stands for the coordinates. With
    ``by_position`` each piece is a node at each position: of position ``t``, ``t * parts + part``.
    Features are on the last axis, in maps (four axes and more) on the second.
    """

    site: Site
    parts: int | None = 1
    by_position: bool = False

    @property
    def sites(self) -> tuple[Site, ...]:
        """The site itself."""
        return (self.site,)

    @property
    def differentiated(self) -> tuple[Site, ...]:
        """The site itself."""
        return (self.site,)

    def changes(self, seen: Activations, reference: References | None) -> tuple[Changes, ...]:
        """Put the reference in the place of each part; ConfigError if it cannot be so divided."""
        own = seen[self.site]
        if own.ndim == 1:
            own = own.unsqueeze(1)
        other = torch.zeros_like(own) if reference is None else reference[self.site].to(own)
        features = own.shape[_feature_axis(own)]
        parts = features if self.parts is None else self.parts
        if parts < 1 or features % parts:
            raise ConfigError(
                f"site {self.site!r} has {features} features, which are not {parts} equal parts; "
                "give a divisor"
            )
        change = _arranged((other - own).expand_as(own), parts)
        return (_Changes(self.site, change, self.by_position, seen[self.site].shape),)


@final
@dataclass(frozen=True)
class _Changes:
    """Parts of the difference to the reference."""

    site: Site
    change: Float[Tensor, "batch position part width"]
    by_position: bool
    shape: torch.Size

    @property
    def name(self) -> str:
        return self.site

    @property
    def slope_site(self) -> Site:
        return self.site

    @property
    def rows(self) -> Int64[Tensor, " pair"]:
        return torch.arange(len(self.change)).repeat_interleave(self._nodes)

    @property
    def nodes(self) -> Int64[Tensor, " pair"]:
        return torch.arange(self._nodes).repeat(len(self.change))

    def added(self, pairs: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen ..."]:
        return self._back(alone(self.change, pairs, by_position=self.by_position))

    def estimates(
        self, gradients: Activations, *, through_softmax: bool
    ) -> Float64[Tensor, " pair"]:
        del through_softmax  # ``attended`` wraps what changes a query or a key
        slope = gradients[self.site]
        slope = _arranged(slope.unsqueeze(1) if slope.ndim == 1 else slope, self.change.shape[2])
        return summed((self.change * slope).double().sum(dim=3), by_position=self.by_position)

    @cached_property
    def _nodes(self) -> int:
        return self.change.shape[2] * (self.change.shape[1] if self.by_position else 1)

    def _back(
        self, change: Float[Tensor, "chosen position part width"]
    ) -> Float[Tensor, "chosen ..."]:
        """Undo the arrangement."""
        flat = change.flatten(2)
        if len(self.shape) > _SEQUENCE:
            flat = flat.transpose(1, 2)
        return flat.reshape(len(change), *self.shape[1:])


def alone(
    change: Float[Tensor, "batch position part width"],
    pairs: Int64[Tensor, " chosen"],
    *,
    by_position: bool,
) -> Float[Tensor, "chosen position part width"]:
    """Return the changes of some pairs, zero but for their own parts and positions."""
    positions, parts = change.shape[1:3]
    nodes = parts * (positions if by_position else 1)
    rows, node = pairs // nodes, pairs % nodes
    is_own = (torch.arange(parts) == (node % parts).unsqueeze(1)).unsqueeze(1)
    if by_position:
        is_own = is_own & (torch.arange(positions) == (node // parts).unsqueeze(1)).unsqueeze(2)
    return torch.where(is_own.unsqueeze(3), change[rows], 0.0)


def summed(
    effects: Float64[Tensor, "batch position part"], *, by_position: bool
) -> Float64[Tensor, " pair"]:
    """Return effects by pair: of each position, or over all."""
    return (effects if by_position else effects.sum(dim=1)).flatten()


def _arranged(
    activations: Float[Tensor, "batch ..."], parts: int
) -> Float[Tensor, "batch position part width"]:
    positions = activations
    if activations.ndim > _SEQUENCE:
        positions = activations.flatten(2).transpose(1, 2)
    elif activations.ndim < _SEQUENCE:
        positions = activations.unsqueeze(1)
    return positions.reshape(*positions.shape[:2], parts, -1)


def _feature_axis(activations: Tensor) -> int:
    return 1 if activations.ndim > _SEQUENCE else activations.ndim - 1
