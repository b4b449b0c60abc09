"""Several decompositions, of different sites, as one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import final

from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.types import Activations, Activity, Site


@final
@dataclass(frozen=True)
class Joined:
    """The parts side by side; no site may occur in two of them."""

    parts: tuple[Decomposition, ...]

    def __post_init__(self) -> None:
        if not self.parts or len(set(self.sites)) < len(self.sites):
            raise ConfigError(f"each site needs exactly one decomposition, got {self.sites}")

    @property
    def sites(self) -> tuple[Site, ...]:
        """The parts' sites, in order."""
        return tuple(chain.from_iterable(part.sites for part in self.parts))

    @property
    def fingerprint(self) -> str:
        """A hash of the parts' fingerprints, in order."""
        return hashlib.sha256(
            " ".join(part.fingerprint for part in self.parts).encode()
        ).hexdigest()

    def activity(self, activations: Activations) -> Mapping[Site, Activity]:
        """Decompose each site with its own part."""
        return {
            site: activity
            for part in self.parts
            for site, activity in part.activity(activations).items()
        }

    def directions(
        self, site: Site, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Ask the site's own part."""
        return self._part(site).directions(site, components)

    def spread(
        self,
        site: Site,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Ask the site's own part."""
        return self._part(site).spread(site, change, activations)

    def _part(self, site: Site) -> Decomposition:
        return next(part for part in self.parts if site in part.sites)
