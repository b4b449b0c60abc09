"""What a caller that ran the model itself sends in the place of inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from jaxtyping import Float, Int64
from torch import Tensor

from mad.capture.hooks import Outputs
from mad.types import Activations, Inputs, View


@final
@dataclass(frozen=True)
class ActivationBatch:
    """One forward pass that was run elsewhere; of the outputs only the first is looked at."""

    activations: Activations
    outputs: Outputs
    model_fingerprint: str

    @property
    def size(self) -> int:
        """How many inputs it is of; 0 if there are no activations."""
        return max((len(each) if each.ndim else 0 for each in self.activations.values()), default=0)


@final
@dataclass(frozen=True)
class ViewCodes:
    """The active sets of some inputs in one view, one after the other.

    Once they are checked, there is a magnitude for each component.
    """

    counts: Int64[Tensor, " batch"]
    components: Int64[Tensor, " entry"]
    magnitudes: Float[Tensor, " magnitude"]


@final
@dataclass(frozen=True)
class CodeBatch:
    """Active sets found elsewhere, with the label the model predicted for each input.

    ``contexts`` is empty where the baseline asks for none.
    """

    views: Mapping[View, ViewCodes]
    contexts: Int64[Tensor, " labelled"]
    model_fingerprint: str
    decomposition_fingerprint: str

    @property
    def size(self) -> int:
        """How many inputs it is of; 0 if there are no views."""
        return max((len(each.counts) for each in self.views.values()), default=0)


Payload: TypeAlias = Inputs | ActivationBatch | CodeBatch
"""What can be judged."""


def size_of(payload: Payload) -> int:
    """Return how many inputs there are; of tensors that differ, as many as the largest has."""
    if isinstance(payload, ActivationBatch | CodeBatch):
        return payload.size
    return max([tensor.size(0) for tensor in payload.values()])
