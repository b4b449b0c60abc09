"""Components of several layers in one view, twins left out: a code of their sets sees all pairs.

Layers of a parameter decomposition are views of their own, so that no code of active sets sees two
mechanisms of different layers together. All in one, a tree would spend its links on twins: pieces
of consecutive matrices that are one mechanism and always go together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mad.bench.truth.known import activity_of
from mad.bench.truth.matching import dense
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.tensors import digest
from mad.types import Activations, Activity, Inputs, Site, View, view_of

TWINS: Final = 0.9
"""Correlation from which on two components are one."""


@final
@dataclass(frozen=True)
class Across:
    """Some components of another decomposition, ``kept`` among all of its views in a row.

    They are active where they are there, without directions of their own: what they add to a site
    is told by their own views. The residual is the first view's.
    """

    whole: Decomposition
    kept: Int64[Tensor, " component"]
    origins: tuple[tuple[View, int], ...]

    @staticmethod
    def fit(model: MonitoredModel, whole: Decomposition, trusted: Inputs) -> "Across":
        """Leave out what goes with an earlier component on trusted inputs."""
        run = capture(model, whole.sites, trusted)
        with torch.no_grad():
            activity = whole.activity(run.activations)
        kept = _without_twins(torch.cat([dense(one) for one in activity.values()], dim=1))
        every = [
            (view, place) for view, one in activity.items() for place in range(one.num_components)
        ]
        return Across(whole, kept, tuple(every[place] for place in kept.tolist()))

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the other."""
        return self.whole.sites

    @cached_property
    def view(self) -> View:
        """The one view."""
        return view_of(next(iter(self.whole.views.values())), "across")

    @property
    def views(self) -> Mapping[View, Site]:
        """One view, which bears the first site's name."""
        return {self.view: next(iter(self.whole.views.values()))}

    @property
    def fingerprint(self) -> str:
        """A hash of the other's and of what is kept of it."""
        return digest({"kept": self.kept}, note=f"across {self.whole.fingerprint}")

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Put the kept components of all views together."""
        views = tuple(self.whole.activity(activations).values())
        used = torch.cat([dense(one) for one in views], dim=1)[:, self.kept]
        first = views[0]
        ones = used.to(first.residual.dtype)
        return {
            self.view: activity_of(used, ones, residual=first.residual, activation=first.activation)
        }

    def directions(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        components: Int64[Tensor, " entry"],
    ) -> Float[Tensor, "entry coordinate"]:
        """Return nothing to add: the components' own views do."""
        origin = self.origins[0]
        width = self.whole.directions(origin[0], torch.zeros(1, dtype=torch.int64)).shape[1]
        return torch.zeros(len(components), width)

    def spread(
        self,
        view: View,  # noqa: ARG002  # Decomposition
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Change the first site as its own view does."""
        return self.whole.spread(next(iter(self.whole.views)), change, activations)


def _without_twins(used: Bool[Tensor, "batch component"]) -> Int64[Tensor, " component"]:
    """Return components that go with none before them; those never or always active are kept."""
    away = used.double() - used.double().mean(dim=0)
    unit = away / away.norm(dim=0).clamp_min(1e-12)
    alike = (unit.T @ unit) >= TWINS
    kept: list[int] = []
    for place in range(used.shape[1]):
        if not alike[place, kept].any():
            kept.append(place)
    return torch.tensor(kept, dtype=torch.int64)
