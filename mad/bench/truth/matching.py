"""Which component of a decomposition is which known mechanism, by when each of them is active."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from mad.bench.truth.base import Truth
from mad.capture.hooks import capture
from mad.components.base import Decomposition
from mad.types import Activity, Inputs, View

FOUND: Final = 0.95
"""Agreement from which on a mechanism counts as found."""

NAMED: Final = 0.5
"""Agreement from which on a component stands for a mechanism, if for none better."""

ALIKE: Final = 0.01
"""How much worse than the best may agree and be stood for too: a gate that matters only through
another is active just where the other is."""


@final
@dataclass(frozen=True)
class Matching:
    """How well some component agrees with each mechanism, and what each component stands for.

    Agreement is the F1 of a component's activity as a prediction: ``causal`` of where the mechanism
    is active, ``local`` of where it is on.
    """

    causal: Float64[Tensor, " mechanism"]
    local: Float64[Tensor, " mechanism"]
    stands_for: Mapping[tuple[View, int], frozenset[int]]

    @property
    def found(self) -> Bool[Tensor, " mechanism"]:
        """Say which mechanisms some component is active with, where they are active or on.

        Either will do: importance of the scalar kind sees its own layer alone, and so cannot tell
        where a mechanism that is on changes no answer.
        """
        return torch.maximum(self.causal, self.local) >= FOUND


def match(truth: Truth, decomposition: Decomposition, inputs: Inputs) -> Matching:
    """Compare on inputs of all kinds, anomalies among them."""
    run = capture(truth.model, decomposition.sites, inputs)
    with torch.no_grad():
        activity = decomposition.activity(run.activations)
    keys = [(view, index) for view, one in activity.items() for index in range(one.num_components)]
    used = torch.cat([dense(one) for one in activity.values()], dim=1)
    causal, local = agreement(used, truth.active(inputs)), agreement(used, truth.on(inputs))
    either = torch.maximum(causal, local)
    least = (either.amax(dim=1, keepdim=True) - ALIKE).clamp_min(NAMED)
    stands_for = {
        key: frozenset(is_meant.nonzero().squeeze(1).tolist())
        for key, is_meant in zip(keys, either >= least, strict=True)
        if is_meant.any()
    }
    return Matching(causal.amax(dim=0), local.amax(dim=0), stands_for)


def agreement(
    used: Bool[Tensor, "batch component"], known: Bool[Tensor, "batch mechanism"]
) -> Float64[Tensor, "component mechanism"]:
    """Return twice the inputs that are in both, over those in either as often as they are."""
    both = used.double().T @ known.double()
    either = used.sum(dim=0).unsqueeze(1) + known.sum(dim=0)
    return 2 * both / either.clamp_min(1)


def dense(activity: Activity) -> Bool[Tensor, "batch component"]:
    """Return active sets as a table."""
    table = torch.zeros(len(activity), activity.num_components, dtype=torch.bool)
    table[activity.rows, activity.components] = True
    return table
