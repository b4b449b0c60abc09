"""What every decomposition promises."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor

from mad.types import Activations, Activity, Site, View


@runtime_checkable
class Decomposition(Protocol):
    """A fixed set of components at each of some sites, which it may look at in several ways.

    Laws: the activity of an input does not depend on its companions in the batch; components are
    ascending within an input and have non-zero magnitude. A component's share of an activation is
    its magnitude times its direction: without it, and without the residual, so much is missing.
    """

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites whose activations are needed, each once, in the order of their first views."""
        ...

    @property
    def views(self) -> Mapping[View, Site]:
        """The captured site behind each view, in the order of the activity."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything the activity depends on."""
        ...

    def activity(self, activations: Activations) -> Mapping[View, Activity]:
        """Say which components each input used in each view, how strongly, and what is left."""
        ...

    def directions(
        self, view: View, components: Int64[Tensor, " entry"]
    ) -> Float[Tensor, "entry coordinate"]:
        """Return what one unit of magnitude of each component adds to the view's pooled vector."""
        ...

    def spread(
        self,
        view: View,
        change: Float[Tensor, "batch coordinate"],
        activations: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Return what to add to the site's output for the view's pooled vector to change as asked.

        It is linear in the change.
        """
        ...
