"""What everything promises whose effect on an answer can be asked for."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mad.types import Activations, Site

References: TypeAlias = Mapping[Site, Float[Tensor, "other ..."]]
"""What sites gave for other inputs: for as many, or for one that stands for all."""


@runtime_checkable
class Changes(Protocol):
    """Changes of a model's computation on some inputs, each of one node for one input: a pair.

    What a change does to the model is to add something to the output of one site. Laws: pairs are
    ordered by input; what is added in a pair does not depend on the others.
    """

    @property
    def name(self) -> str:
        """What the nodes are, such as the name of a view."""
        ...

    @property
    def rows(self) -> Int64[Tensor, " pair"]:
        """The input of each pair."""
        ...

    @property
    def nodes(self) -> Int64[Tensor, " pair"]:
        """The node of each pair."""
        ...

    @property
    def site(self) -> Site:
        """The site that is added to."""
        ...

    @property
    def slope_site(self) -> Site:
        """The site whose gradient estimates go by; without any there, a node has no effect."""
        ...

    def added(self, pairs: Int64[Tensor, " chosen"]) -> Float[Tensor, "chosen ..."]:
        """Return what some of the changes add to the site's output for their inputs."""
        ...

    def estimates(
        self, gradients: Activations, *, through_softmax: bool
    ) -> Float64[Tensor, " pair"]:
        """Estimate how much each change moves the answer, by gradients on the unchanged inputs.

        To first order in the change, or, with ``through_softmax``, in what it does to the mixture
        that attention makes of values, where it changes a query or a key.
        """
        ...


@runtime_checkable
class Nodes(Protocol):
    """Pieces of a model that can be changed one at a time."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites whose activations are needed."""
        ...

    @property
    def differentiated(self) -> tuple[Site, ...]:
        """Those among them whose gradients are needed: others may have none, as tokens have."""
        ...

    def changes(self, seen: Activations, reference: References | None) -> tuple[Changes, ...]:
        """Return the changes that put what is in the reference in the place of each node.

        No reference is zero.

        Raises:
            ConfigError: the nodes are not to be found in what the sites gave.
        """
        ...
