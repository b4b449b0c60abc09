"""Nodes that are components of a decomposition: latents of a dictionary, pieces of weights."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mad.components.base import Decomposition
from mad.effects.base import Changes, References
from mad.effects.slope import by_magnitude
from mad.types import Activations, Activity, Site, View


@final
@dataclass(frozen=True)
class Components:
    """Every active component of a decomposition, in each of its views.

    The change is to silence it: its share of the activation is taken away, and everything else,
    the residual too, stays. Silence, whatever the reference, since a sparse component is silent for
    most inputs. A component that is not active has no effect, and is in no pair.
    """

    decomposition: Decomposition

    @property
    def sites(self) -> tuple[Site, ...]:
        """The decomposition's."""
        return self.decomposition.sites

    @property
    def differentiated(self) -> tuple[Site, ...]:
        """Those that components add up to."""
        return tuple(dict.fromkeys(self.decomposition.views.values()))

    def changes(self, seen: Activations, reference: References | None) -> tuple[Changes, ...]:
        """Silence each active component; one entry a view."""
        del reference
        with torch.no_grad():
            found = self.decomposition.activity(seen)
        return tuple(
            _Silenced(self.decomposition, view, seen, activity) for view, activity in found.items()
        )


@final
@dataclass(frozen=True)
class _Silenced:
    """The shares of the active components of one view, taken away."""

    decomposition: Decomposition
    view: View
    seen: Activations
    activity: Activity

    @property
    def name(self) -> str:
        return self.view

    @cached_property
    def site(self) -> Site:
        return self.decomposition.views[self.view]

    @property
    def slope_site(self) -> Site:
        return self.site

    @property
    def rows(self) -> Int64[Tensor, " pair"]:
        return self.activity.rows

    @property
    def nodes(self) -> Int64[Tensor, " pair"]:
        return self.activity.components

    def added(self, pairs: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen ..."]:
        directions = self.decomposition.directions(self.view, self.nodes[pairs])
        share = self.activity.magnitudes[pairs].unsqueeze(1) * directions
        return self.decomposition.spread(self.view, -share, self.seen[self.site][self.rows[pairs]])

    def estimates(
        self, gradients: Activations, *, through_softmax: bool
    ) -> Float64[Tensor, " pair"]:
        del through_softmax  # ``attended`` wraps what changes a query or a key
        found = by_magnitude(self.decomposition, self.view, self.activity, self.seen, gradients)
        return -found.double()
