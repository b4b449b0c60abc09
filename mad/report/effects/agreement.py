"""How well estimated effects agree with measured ones: pairs in, ranks and curves out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from scipy import stats
from torch import Tensor

from mad.effects import METHODS, Method

ROUNDING: Final = 1e-6
"""Effects below this share of the largest are none: running a model again in another batch rounds
otherwise."""


@final
@dataclass(frozen=True)
class Pairs:
    """Effects of nodes of one kind on the answers to some inputs, measured and estimated."""

    name: str
    inputs: Int64[Tensor, " pair"]
    nodes: Int64[Tensor, " pair"]
    truth: Float64[Tensor, " pair"]
    estimates: Mapping[Method, Float64[Tensor, " pair"]]

    @staticmethod
    def joined(parts: Sequence["Pairs"], name: str) -> "Pairs":
        """Return several as one, at least one."""
        return Pairs(
            name,
            torch.cat([part.inputs for part in parts]),
            torch.cat([part.nodes for part in parts]),
            torch.cat([part.truth for part in parts]),
            {method: torch.cat([part.estimates[method] for part in parts]) for method in METHODS},
        )

    @cached_property
    def has_any(self) -> Bool[Tensor, " pair"]:
        """Which pairs have an effect, by any account; the others would flatter every method."""
        every = torch.stack([self.truth, *self.estimates.values()]).abs()
        largest = every[0].max() if len(self.truth) else 0.0
        return (every > ROUNDING * largest).any(dim=0)

    def rank_correlation(self, method: Method) -> float:
        """Return Spearman's correlation of absolute effects; NaN where there is nothing to rank."""
        both = (self.truth, self.estimates[method])
        ranks = np.stack([stats.rankdata(one[self.has_any].abs().numpy()) for one in both])
        if (ranks == ranks[:, :1]).all(axis=1).any():
            return math.nan
        return float(np.corrcoef(ranks)[0, 1])

    def curve(self, method: Method, *, top: int) -> Float64[np.ndarray, " verified"]:
        """Return what share of each input's true top is found, by how many nodes are verified.

        Nodes are verified in the order of their absolute estimates; entry ``n`` is after ``n`` of
        them. Inputs with fewer nodes than ``top`` that have an effect count those they have.
        """
        found = []
        for one in torch.unique(self.inputs).tolist():
            own = self.inputs == one
            truth, guess = (some[own].abs() for some in (self.truth, self.estimates[method]))
            best = truth.argsort(descending=True, stable=True)[:top]
            best = best[self.has_any[own][best] & (truth[best] > 0)]
            if len(best):
                order = guess.argsort(descending=True, stable=True)
                found.append(torch.isin(order, best).double().cumsum(0) / len(best))
        longest = max(map(len, found), default=0)
        padded = [torch.nn.functional.pad(one, (0, longest - len(one)), value=1.0) for one in found]
        mean = torch.stack(padded).mean(dim=0) if padded else torch.zeros(0, dtype=torch.float64)
        return np.concatenate([[0.0], mean.numpy()])

    def found_at_once(self, method: Method, *, top: int) -> float:
        """Return the share of each input's true top that is among as many by the estimate."""
        curve = self.curve(method, top=top)
        return float(curve[min(top, len(curve) - 1)]) if len(curve) > 1 else math.nan


@final
@dataclass(frozen=True, slots=True)
class Agreement:
    """How nodes of one kind, or all, are ranked by each method, and what share of the top it has.

    ``without`` counts the pairs that have no effect by any account, which are left out.
    """

    name: str
    pairs: int
    without: int
    ranks: Mapping[Method, float]
    found: Mapping[Method, float]

    @staticmethod
    def of(pairs: Pairs, *, top: int) -> "Agreement":
        """Compare each method with the truth."""
        return Agreement(
            pairs.name,
            len(pairs.truth),
            int((~pairs.has_any).sum()),
            {method: pairs.rank_correlation(method) for method in METHODS},
            {method: pairs.found_at_once(method, top=top) for method in METHODS},
        )


@final
@dataclass(frozen=True)
class Curve:
    """The share of each input's most effective nodes that is found, by runs of the model.

    What a method costs by itself comes first: one run forward, and a backward pass for two. Then
    nodes are verified, at a run each.
    """

    method: Method
    first: int
    found: Float64[np.ndarray, " verified"]

    def runs_for(self, share: float) -> int | None:
        """Return after how many runs so much is found; None if it never is."""
        reached = np.flatnonzero(self.found >= share - 1e-9)
        return self.first + int(reached[0]) if len(reached) else None
