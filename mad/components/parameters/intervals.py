"""Scalar importance as thresholds: from the networks of a layer to two numbers a subcomponent.

Importance of this kind is a function of one number, the inner activation. So what makes it exceed a
threshold can be found once, and an active set is one matrix product and two comparisons.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from mad.components.parameters.importance import ScalarImportance

_BENDS: Final = torch.linspace(-6.0, 6.0, 37, dtype=torch.float64)
"""Where a Gaussian error linear unit bends: beyond, it is zero or its argument to 1e-8."""

_FAR: Final = 1e9
"""How many times further out than all bends a crossing is still looked for."""

_HALVINGS: Final = 96
_PIECE: Final = 64


@final
@dataclass(frozen=True)
class Intervals:
    """Subcomponent ``c`` is active where its inner activation is below ``low`` or above ``high``.

    Infinite ends say that one side, both or neither make it active. Those in ``odd`` cross the
    threshold otherwise: their networks, ``networks``, are asked.
    """

    low: Float[Tensor, " component"]
    high: Float[Tensor, " component"]
    odd: Int64[Tensor, " odd"]
    networks: ScalarImportance
    threshold: float

    @staticmethod
    def solve(importance: ScalarImportance, *, threshold: float) -> "Intervals":
        """Find where importance exceeds a threshold, from 0 to below 1.

        No data are needed: each network is looked at wherever one of its units bends, and far
        beyond on both sides, where it is a straight line; crossings are then halved in on. What is
        missed is a network that crosses twice between two bends, a third of a unit apart.
        """
        assert 0.0 <= threshold < 1.0
        exact = _map(importance, Tensor.double)
        pieces = torch.arange(importance.width).split(_PIECE)
        found = [_solve(_take(exact, rows), threshold) for rows in pieces]
        low, high, is_odd = (torch.cat(column) for column in zip(*found, strict=True))
        odd = is_odd.nonzero().squeeze(1)
        like = importance.b_out.dtype
        return Intervals(low.to(like), high.to(like), odd, _take(importance, odd), threshold)

    def active(self, inner: Float[Tensor, "*place component"]) -> Bool[Tensor, "*place component"]:
        """Say where importance exceeds the threshold."""
        # By NumPy, which compares three times as fast as torch writes booleans.
        h, (low, high) = inner.detach().numpy(), self._ends
        active = torch.from_numpy((h < low) | (h > high))
        if len(self.odd):
            logits = self.networks.logits(inner[..., self.odd], None)
            active[..., self.odd] = logits > self.threshold
        return active

    @cached_property
    def _ends(self) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        return self.low.numpy(), self.high.numpy()


def _solve(
    networks: ScalarImportance, threshold: float
) -> tuple[
    Float64[Tensor, " component"], Float64[Tensor, " component"], Bool[Tensor, " component"]
]:
    points = _points(networks)
    above = _above(networks, points, threshold)
    turns = above[:, 1:] != above[:, :-1]
    count, first = turns.sum(dim=1), above[:, 0]
    start = turns.int().argmax(dim=1, keepdim=True)
    stop = turns.shape[1] - 1 - turns.flip(1).int().argmax(dim=1, keepdim=True)
    one, other = (_crossing(networks, points, place, threshold) for place in (start, stop))
    infinite = torch.full_like(one, torch.inf)
    # Never, always; from the left up to a crossing, from a crossing on; all but between two.
    low = torch.where(count == 0, torch.where(first, infinite, -infinite), -infinite)
    low = torch.where((count > 0) & first, one, low)
    rises = ((count == 1) & ~first) | ((count == 2) & first)  # noqa: PLR2004  # two crossings
    high = torch.where(rises, other, infinite)
    is_odd = (count > 2) | ((count == 2) & ~first)  # noqa: PLR2004  # more, or active between two
    return low, high, is_odd


def _points(networks: ScalarImportance) -> Float64[Tensor, "component point"]:
    bends = (_BENDS - networks.b_in.unsqueeze(-1)) / networks.w_in.unsqueeze(-1)
    bends = bends.flatten(1).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    far = _FAR * (1.0 + bends.abs().amax(dim=1, keepdim=True))
    return torch.cat([-far, bends, torch.zeros_like(far), far], dim=1).sort(dim=1).values


def _above(
    networks: ScalarImportance, points: Float64[Tensor, "component point"], threshold: float
) -> Bool[Tensor, "component point"]:
    return torch.gt(networks.logits(points.T, None).T, threshold)


def _crossing(
    networks: ScalarImportance,
    points: Float64[Tensor, "component point"],
    place: Int64[Tensor, "component 1"],
    threshold: float,
) -> Float64[Tensor, " component"]:
    """Halve in on the crossing between a point and the next."""
    low, high = points.gather(1, place), points.gather(1, place + 1)
    begins = _above(networks, low, threshold)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_before = _above(networks, middle, threshold) == begins
        low, high = torch.where(is_before, middle, low), torch.where(is_before, high, middle)
    return high.squeeze(1)


def _take(networks: ScalarImportance, rows: Int64[Tensor, " some"]) -> ScalarImportance:
    return _map(networks, lambda tensor: tensor[rows])


def _map(networks: ScalarImportance, change: Callable[[Tensor], Tensor]) -> ScalarImportance:
    return ScalarImportance(
        change(networks.w_in),
        change(networks.b_in),
        change(networks.w_out),
        change(networks.b_out),
    )
