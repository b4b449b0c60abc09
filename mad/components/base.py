"""What every decomposition promises."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from mad.types import Activations, Activity, Site


@runtime_checkable
class Decomposition(Protocol):
    """A fixed set of components at each of some sites.

    Laws: the activity of an input does not depend on its companions in the batch; components are
    ascending within an input and have non-zero magnitude.
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
