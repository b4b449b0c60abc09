"""A model whose mechanisms are known by ablation, and what an input that uses them oddly is.

A mechanism is *on* where it computes something, and *active* where the answer depends on that: with
the mechanism ablated, the answer would be another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.types import Inputs, Site

Draw: TypeAlias = Callable[[int, torch.Generator], Inputs]
"""As many inputs as asked for, from everything the model is made for."""

Used: TypeAlias = Callable[[Inputs], Bool[Tensor, "batch mechanism"]]

AnomalyKind: TypeAlias = Literal["mechanism", "pair", "reason"]
"""A mechanism that trusted inputs never use; two that they use, and never together; or the answer
of trusted inputs, from another mechanism than theirs."""


@final
@dataclass(frozen=True)
class Truth:
    """A model and its mechanisms. Law: what is active is on.

    ``layers`` are the modules whose matrices hold the mechanisms, and ``sites`` where dictionaries
    look. An alternative ``(whole, usual, other)`` is a mechanism that is on if either of two others
    is.
    """

    name: str
    model: MonitoredModel
    layers: tuple[str, ...]
    sites: tuple[Site, ...]
    mechanisms: tuple[str, ...]
    draw: Draw
    on: Used
    active: Used
    alternatives: tuple[tuple[int, int, int], ...] = ()


@final
@dataclass(frozen=True)
class Anomaly:
    """Inputs where mechanisms ``uses`` are on and mechanisms ``lacks`` are off: never trusted ones.

    ``culprits`` are the mechanisms that whoever explains one should name.
    """

    kind: AnomalyKind
    uses: tuple[int, ...]
    lacks: tuple[int, ...]
    culprits: tuple[int, ...]

    @staticmethod
    def novel(mechanism: int) -> "Anomaly":
        """Let one mechanism never be on in trusted inputs."""
        return Anomaly("mechanism", (mechanism,), (), (mechanism,))

    @staticmethod
    def pair(first: int, second: int) -> "Anomaly":
        """Let two mechanisms never be on together in trusted inputs."""
        return Anomaly("pair", (first, second), (), (first, second))

    @staticmethod
    def reason(whole: int, usual: int, other: int) -> "Anomaly":
        """Let ``whole`` never be on by ``other`` alone in trusted inputs."""
        return Anomaly("reason", (whole, other), (usual,), (usual, other))

    def name(self, truth: Truth) -> str:
        """Return the names of its culprits."""
        return ", ".join(truth.mechanisms[place] for place in self.culprits)

    def matches(self, is_on: Bool[Tensor, "batch mechanism"]) -> Bool[Tensor, " batch"]:
        """Say of each input whether it is what trusted inputs never are."""
        return is_on[:, list(self.uses)].all(dim=1) & ~is_on[:, list(self.lacks)].any(dim=1)

    def companions(self, is_active: Bool[Tensor, "batch mechanism"]) -> Bool[Tensor, " batch"]:
        """Say of ordinary inputs which are fit to be held against anomalies.

        Those beside a pair use one of the two; others any mechanism.
        """
        if self.kind != "pair":
            return torch.ones(len(is_active), dtype=torch.bool)
        return is_active[:, list(self.uses)].any(dim=1)
