"""What a peer sees of some inputs, and what it promises: trusted ones in, a score of others out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

from jaxtyping import Float, Float64
from torch import Tensor

from mad.types import Context

Vectors: TypeAlias = Float[Tensor, "batch coordinate"]
Scores: TypeAlias = Float64[Tensor, " batch"]
VectorScore: TypeAlias = Callable[[Vectors], Scores]
"""How anomalous each vector is; higher is more so, and no other vector of the batch matters."""


@final
@dataclass(frozen=True)
class Labelled:
    """Vectors of one site, with the label that the model predicted for each input."""

    vectors: Vectors
    predicted: Context


LabelledScore: TypeAlias = Callable[[Labelled], Scores]
SitePeer: TypeAlias = Callable[[Labelled], LabelledScore]
"""Fitted on trusted vectors of one site, a peer scores others of that site."""


def without_labels(peer: Callable[[Vectors], VectorScore]) -> SitePeer:
    """Return the peer as one that is told the predicted labels and ignores them."""

    def fit(trusted: Labelled) -> LabelledScore:
        score = peer(trusted.vectors)
        return lambda asked: score(asked.vectors)

    return fit
