"""What every decomposition promises."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor

from mad.types import Activations, Activity, Site


@runtime_checkable
class Decomposition(Protocol):
    """A fixed set of components at each of some sites.

    Laws: the activity of an input does not depend on its companions in the batch; components are
    ascending within an input and have non-zero magnitude. A component's share of an activation is
    its magnitude times its direction: without it, and without the residual, so much is missing.
    """

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites whose activations are needed, each once."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything the activity depends on."""
        ...

    def activity(self, activations: Activations) -> Mapping[Site, Activity]:
        """Say which components each input used at each site, how strongly, and what is left."""
        ...

    def directions(
        self, site: Site, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Return what one unit of magnitude of each component adds to the site's pooled vector."""
        ...

    def spread(
        self,
        site: Site,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Return what to add to the site's output for its pooled vector to change as asked.

        It is linear in the change.
        """
        ...
