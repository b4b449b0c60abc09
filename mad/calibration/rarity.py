"""Rarity bits: code lengths of any scale in, bits that mean the same for every part out."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.errors import ConfigError

TAIL_SHARE = 0.02
"""Share of trusted inputs, the costliest, above which rarity follows an exponential."""

MIN_TAIL = 10
"""At least this many trusted inputs say how steep the exponential is: to about a third."""

MAX_KNOTS = 4_096
"""Order statistics kept for a part. More calibration inputs cost at most 0.003 bits of accuracy."""

_NO_SPREAD = 1e-9


@final
@dataclass(frozen=True)
class Rarity:
    """``-log2`` of the share of trusted inputs that cost at least as much, for each part.

    At a knot, which is a trusted length ``l``, rarity is ``-log2((#{length >= l} + 1) / (n + 1))``;
    between knots it is linear, so never above what was counted; below the first it is 0. Above the
    last knot, the 98 % point or as near as ties and few inputs allow, it goes on as an exponential
    with mean excess ``scale`` (peaks over threshold, Pickands 1975): ``(l - knot) / (scale ln 2)``
    more bits.

    Laws: continuous, nowhere decreasing, increasing above the last knot, finite for finite lengths
    and infinite for infinite ones; the same for lengths in any unit. ``typical`` is the mean over
    trusted inputs: ``1 / ln 2 = 1.44`` bits where lengths do not tie.
    """

    knots: Float64[Tensor, "part knot"]
    rarity: Float64[Tensor, "part knot"]
    scale: Float64[Tensor, " part"]
    typical: Float64[Tensor, " part"]

    @staticmethod
    def fit(bits: Float64[Tensor, "reference part"], *, least_scale: float = 0.0) -> "Rarity":
        """Count, for each part, how common each length is among trusted inputs held out.

        An infinite length counts as the largest finite one. No ``scale`` is under ``least_scale``;
        one above zero makes rarity depend on the unit of lengths.

        Raises:
            ConfigError: no trusted input, or a part that has no finite length.
        """
        if bits.shape[0] == 0:
            raise ConfigError("rarity needs trusted inputs to count, and was given none; add some")
        finite = bits.masked_fill(bits == torch.inf, -torch.inf).amax(dim=0)
        if not torch.isfinite(finite).all():
            part = int((~torch.isfinite(finite)).nonzero()[0])
            raise ConfigError(
                f"part {part} costs infinitely many bits on every one of {bits.shape[0]} trusted "
                "inputs: the model's activations there are not numbers; leave the site out"
            )
        lengths = bits.minimum(finite).sort(dim=0).values
        columns = [_fit_part(column.contiguous()) for column in lengths.unbind(dim=1)]
        knots, rarity, scale = (torch.stack(field) for field in zip(*columns, strict=True))
        scale = scale.clamp_min(least_scale)
        unfinished = Rarity(knots, rarity, scale, torch.zeros_like(scale))
        return Rarity(knots, rarity, scale, unfinished.bits(lengths).mean(dim=0))

    def bits(self, lengths: Float64[Tensor, "batch part"]) -> Float64[Tensor, "batch part"]:
        """Return how rare each length is among trusted inputs, in bits."""
        found = self.by_part(np.ascontiguousarray(lengths.numpy().T))
        return torch.from_numpy(np.ascontiguousarray(found.T))

    def by_part(
        self, lengths: Float64[np.ndarray, "part batch"]
    ) -> Float64[np.ndarray, "part batch"]:
        """Return the same of one row of lengths a part."""
        curves = self._curves
        within = np.minimum(lengths, curves.last)
        after = torch.searchsorted(self.knots, torch.from_numpy(within), right=True).numpy()
        low, width, start, end = curves.pieces.take(after + curves.first, axis=0).transpose(2, 0, 1)
        share = (within - low) / width
        counted: Float64[np.ndarray, "part batch"] = np.minimum(
            start + np.maximum(share, 0.0) * (end - start), end
        )
        counted += (lengths - within) / curves.scale
        return counted

    def of(self, parts: Bool[Tensor, " part"]) -> "Rarity":
        """Return the same for some of the parts."""
        return Rarity(self.knots[parts], self.rarity[parts], self.scale[parts], self.typical[parts])

    @cached_property
    def _curves(self) -> "_Curves":
        parts, knots = self.knots.shape
        left = torch.arange(-1, knots).clamp_min(0)
        right = torch.arange(knots + 1).clamp_max(knots - 1)
        low = self.knots[:, left]
        width = self.knots[:, right] - low
        # A left knot that is also the right one is an end of the curve: any width will do.
        width = torch.where(width > 0, width, 1.0)
        ends = (low, width, self.rarity[:, left], self.rarity[:, right])
        return _Curves(
            np.arange(0, parts * (knots + 1), knots + 1)[:, None],
            torch.stack(ends, dim=2).flatten(0, 1).numpy(),
            self.knots[:, -1:].numpy(),
            self.scale.unsqueeze(1).numpy() * math.log(2),
        )


@final
@dataclass(frozen=True)
class _Curves:
    """Curves piece by piece, one more than knots: numpy is three times as fast with few numbers.

    Those of a part begin at ``first``. Each of ``pieces`` has the length it begins at, the width
    over which it goes on, and the rarity at both ends: what is read together lies together.
    """

    first: Int64[np.ndarray, "part 1"]
    pieces: Float64[np.ndarray, "part_and_piece 4"]
    last: Float64[np.ndarray, "part 1"]
    scale: Float64[np.ndarray, "part 1"]


def _fit_part(
    lengths: Float64[Tensor, " reference"],
) -> tuple[Float64[Tensor, " knot"], Float64[Tensor, " knot"], Float64[Tensor, ""]]:
    """Return knots, their rarity and the mean excess above the last, for ascending lengths."""
    inputs = lengths.numel()
    at_least = inputs - torch.searchsorted(lengths, lengths)
    # One logarithm, not a difference of two: the first rarity must be 0 to the last digit.
    rarity = ((inputs + 1) / (at_least + 1).double()).log2()
    start = _tail_start(lengths)
    excess = lengths[start:] - lengths[start]
    # The first of the tail has no excess of its own; it stands for one of a standard deviation, so
    # that few excesses, or none, do not make the tail a cliff.
    scale = (excess.sum() + _spread(lengths)) / (excess.count_nonzero() + 1)
    kept = _kept(rarity[: start + 1], inputs)
    return lengths[kept], rarity[kept], scale


def _tail_start(lengths: Float64[Tensor, " reference"]) -> int:
    """Return where the tail starts: never inside a tie unless nothing is above it."""
    inputs = lengths.numel()
    wanted = max(round(TAIL_SHARE * (inputs + 1)), MIN_TAIL + 1) - 1
    first = inputs - max(min(wanted, inputs // 2), 1)
    tied_from = int(torch.searchsorted(lengths, lengths[first]))
    if tied_from == first:
        return first
    above = int(torch.searchsorted(lengths, lengths[first], right=True))
    return above if above < inputs else tied_from


def _spread(lengths: Float64[Tensor, " reference"]) -> Float64[Tensor, ""]:
    """Return the standard deviation; ``1 / ln 2``, a bit for a bit, if that is only rounding."""
    spread = lengths.std(correction=0)
    constant = spread <= _NO_SPREAD * lengths.abs().amax().clamp_min(1.0)
    return torch.where(constant, 1 / math.log(2), spread)


def _kept(rarity: Float64[Tensor, " counted"], inputs: int) -> Tensor:
    """Return which order statistics to keep: all, or those on either side of evenly spaced levels.

    Whatever lies between two kept neighbours is between the same two levels, hence the accuracy.
    """
    if inputs <= MAX_KNOTS:
        return torch.arange(inputs).clamp_max(rarity.numel() - 1)
    levels = torch.linspace(0.0, float(rarity[-1]), MAX_KNOTS // 2, dtype=torch.float64)
    at_or_above = torch.searchsorted(rarity, levels).clamp_max(rarity.numel() - 1)
    at_or_below = torch.searchsorted(rarity, levels, right=True) - 1
    return torch.cat([at_or_below, at_or_above]).sort().values
