"""Several decompositions, of different sites or of different views of them, as one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import final

from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site, View


@final
@dataclass(frozen=True)
class Joined:
    """The parts side by side; they may share sites, but no view may occur in two of them."""

    parts: tuple[Decomposition, ...]

    def __post_init__(self) -> None:
        views = tuple(chain.from_iterable(part.views for part in self.parts))
        if not views or len(set(views)) < len(views):
            raise ConfigError(f"each view needs exactly one decomposition, got {views}")

    @property
    def sites(self) -> tuple[Site, ...]:
        """The parts' sites, each once, in order; those that are only read come last."""
        every = chain.from_iterable(part.sites for part in self.parts)
        return tuple(dict.fromkeys((*self.views.values(), *every)))

    @property
    def views(self) -> Mapping[View, Site]:
        """The parts' views, in order."""
        return {view: site for part in self.parts for view, site in part.views.items()}

    @property
    def fingerprint(self) -> str:
        """A hash of the parts' fingerprints, in order."""
        return hashlib.sha256(
            " ".join(part.fingerprint for part in self.parts).encode()
        ).hexdigest()

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Decompose each view with its own part."""
        return {
            view: activity
            for part in self.parts
            for view, activity in part.activity(activations).items()
        }

    def directions(
        self, view: View, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Ask the view's own part."""
        return self._owners[view].directions(view, components)

    def spread(
        self,
        view: View,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Ask the view's own part."""
        return self._owners[view].spread(view, change, activations)

    @cached_property
    def _owners(self) -> Mapping[View, Decomposition]:
        return {view: part for part in self.parts for view in part.views}
