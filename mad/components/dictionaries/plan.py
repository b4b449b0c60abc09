"""How dictionaries are trained, and what one is like."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from mad.components.pooling import Pooling
from mad.types import View

Kind: TypeAlias = Literal[
    "relu",
    "lp",
    "topk",
    "batch_topk",
    "jumprelu",
    "gated",
    "matryoshka",
    "switch",
    "bits",
]
"""How latents become active; each is one file in ``kinds``."""

Initial: TypeAlias = Literal["data", "random", "pca"]
"""Where directions start: at data points, anywhere, or along principal axes."""

Dead: TypeAlias = Literal["auxiliary", "resample", "none"]
"""What is done for latents that nothing activates."""

REFERENCE_RATE, REFERENCE_WIDTH = 1e-3, 512


@final
@dataclass(frozen=True, kw_only=True)
class DictionaryPlan:
    """How to train one dictionary; sizes are counts.

    ``k`` is how many latents a vector activates: at most, or for kinds that find their own number,
    on average. Latents that stayed silent for ``dead_after`` vectors are dead; the largest of them
    learn to explain what the others leave over, weighted by ``auxiliary_weight`` (Gao et al. 2024,
    A.2). With ``search``, a second dictionary is trained where another size describes much shorter.
    A ``learning_rate`` of None follows the width (``rate``).

    Some fields are for some kinds: ``p`` is the exponent of ``lp``; ``prefixes`` are the shares of
    the latents that each reconstruct alone in ``matryoshka``; a vector of ``switch`` goes to
    ``active_experts`` of ``experts``, besides the last one where that is ``always_on``; ``bits``
    counts at ``resolution``, a step of the grid as a share of the deviation. ``skip`` adds a linear
    map from source to target. With a ``meta_width``, a dictionary of so many latents is trained
    beside it, whose ``meta_k`` largest explain each decoder direction; ``meta_weight`` is how much
    directions are to be such sums, or below zero, are not to be.
    """

    kind: Kind = "topk"
    width: int = 512
    k: int = 4
    steps: int = 1_000
    batch_size: int = 512
    learning_rate: float | None = None
    auxiliary_weight: float = 1 / 32
    dead_after: int = 25_000
    pooling: Pooling = "auto"
    search: bool = True
    initial: Initial = "data"
    dead: Dead = "auxiliary"
    p: float = 0.5
    prefixes: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    experts: int = 8
    active_experts: int = 1
    always_on: bool = False
    resolution: float = 0.01
    skip: bool = False
    meta_width: int = 0
    meta_k: int = 4
    meta_weight: float = 0.1
    seed: int = 0

    @property
    def rate(self) -> float:
        """Adam's learning rate: 1e-3 at 512 latents, falling with the root of their number."""
        if self.learning_rate is not None:
            return self.learning_rate
        return REFERENCE_RATE * math.sqrt(REFERENCE_WIDTH / self.width)


@final
@dataclass(frozen=True)
class DictionaryFigures:
    """How well a dictionary explains the vectors of its view.

    Share of variance left over, mean active latents, and share of latents that are never active.
    """

    view: View
    unexplained_variance: float
    active_latents: float
    dead_share: float
