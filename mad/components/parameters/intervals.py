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
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

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
    """Where on its inner activation each subcomponent is active.

    Subcomponent ``c`` is where that is below ``low`` or above ``high``; infinite ends say that one
    side, both or neither make it active. Those in ``odd`` are active elsewhere. ``edges`` tells it
    of all: going up from minus infinity, ``c`` is active beyond the first, no more beyond the
    second, again beyond the third. A first one at minus infinity says that it is active from the
    left on; rows are filled up with plus infinity. What is not a number activates nothing.
    """

    low: Float[Tensor, " component"]
    high: Float[Tensor, " component"]
    odd: Int64[Tensor, " odd"]
    edges: Float[Tensor, "component edge"]

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
        found = [_edges(_take(exact, rows), threshold) for rows in pieces]
        most = max(one.shape[1] for one in found)
        edges = torch.cat([pad(one, (0, most - one.shape[1]), value=torch.inf) for one in found])
        return _told(edges.to(importance.b_out.dtype))

    def active(self, inner: Float[Tensor, "*place component"]) -> Bool[Tensor, "*place component"]:
        """Say where importance exceeds the threshold."""
        # By NumPy, which compares three times as fast as torch writes booleans.
        h, (low, high) = inner.detach().numpy(), self._ends
        active = (h < low) | (h > high)
        if self.odd.numel():
            odd, edges = self._odd
            # Beyond an odd number of edges; places last, along which NumPy compares fastest.
            beyond = np.bitwise_xor.reduce(edges < _flat(h)[:, odd].T, axis=0)
            _flat(active)[:, odd] = beyond.T
        return torch.from_numpy(active)

    @cached_property
    def _ends(self) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        return self.low.numpy(), self.high.numpy()

    @cached_property
    def _odd(self) -> tuple[NDArray[np.integer[Any]], NDArray[np.floating[Any]]]:
        return self.odd.numpy(), np.ascontiguousarray(self.edges[self.odd].numpy().T)[..., None]


def _flat(table: Shaped[np.ndarray, "*place component"]) -> Shaped[np.ndarray, "place component"]:
    return table.reshape(-1, table.shape[-1])


def _told(edges: Float[Tensor, "component edge"]) -> Intervals:
    first, second, third = pad(edges, (0, 3), value=torch.inf)[:, :3].unbind(dim=1)
    is_left, count = torch.isneginf(first), torch.isfinite(edges).sum(dim=1)
    infinite = torch.full_like(first, torch.inf)
    low = torch.where(is_left & (count <= 2), second, -infinite)  # noqa: PLR2004  # two edges
    high = torch.where(is_left & (count == 2), third, infinite)  # noqa: PLR2004  # two edges
    high = torch.where(~is_left & (count == 1), first, high)
    is_odd = count > torch.where(is_left, 2, 1)
    return Intervals(low, high, is_odd.nonzero().squeeze(1), edges)


def _edges(networks: ScalarImportance, threshold: float) -> Float64[Tensor, "component edge"]:
    points = _points(networks)
    above = _above(networks, points, threshold)
    turns = above[:, 1:] != above[:, :-1]
    count, is_left = turns.sum(dim=1), above[:, :1]
    places = (~turns).int().argsort(dim=1, stable=True)
    edges = torch.full((len(points), int(count.max())), torch.inf, dtype=points.dtype)
    for edge in range(edges.shape[1]):
        rows = (count > edge).nonzero().squeeze(1)
        place = places[rows, edge : edge + 1]
        edges[rows, edge] = _crossing(_take(networks, rows), points[rows], place, threshold)
    left = torch.where(is_left, -torch.inf, torch.inf).to(edges.dtype)
    every = torch.cat([left, edges], dim=1).sort(dim=1).values
    return every[:, torch.lt(every, torch.inf).any(dim=0)]


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
