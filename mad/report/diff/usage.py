"""How components of one view are used, and how many bits an input another usage differs by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.calibration.drift import refitted_bits, saved_bits
from mad.codes.accounting import CodedPart
from mad.codes.magnitudes import MagnitudeCode, MagnitudeMoments
from mad.codes.sets.independent import IndependentCode
from mad.errors import ConfigError
from mad.types import View

_NODES: Final = 401
_REACH: Final = 10.0
"""The integral over magnitudes is at ``sinh`` of even steps this far, where any Student's density
with the ten degrees that a magnitude has at least is below 1e-30."""


@final
@dataclass(frozen=True)
class Usage:
    """The rate of each component over so many inputs, and the codes of its magnitudes.

    ``magnitudes`` is None where they were not described.
    """

    inputs: int
    rates: Float64[Tensor, " component"]
    magnitudes: MagnitudeCode | None

    @staticmethod
    def of(parts: Sequence[CodedPart], view: View, *, inputs: int) -> "Usage":
        """Read the usage that a baseline's codes were fitted on, over all contexts."""
        own = {part.term: part for part in parts if part.site == view}
        marginal = own["set"].marginal
        assert marginal is not None
        magnitudes = own["magnitudes"].code if "magnitudes" in own else None
        assert magnitudes is None or isinstance(magnitudes, MagnitudeCode)
        return Usage(inputs, marginal.rate, magnitudes)

    @staticmethod
    def counted(moments: MagnitudeMoments) -> "Usage":
        """Read the usage that activity itself showed."""
        return Usage(
            int(moments.counts.inputs.sum()),
            IndependentCode.fit(moments.counts).rate,
            MagnitudeCode.fit(moments.over_contexts()),
        )

    @property
    def typical(self) -> Float64[Tensor, " component"]:
        """The median absolute magnitude of each component where it is active; NaN if unknown."""
        if self.magnitudes is None:
            return torch.full_like(self.rates, torch.nan)
        return self.magnitudes.location[-1].exp()


@final
@dataclass(frozen=True)
class Moves:
    """What describing the first usage by the second's codes costs more, by component, in bits.

    ``rates`` is the divergence of Kullback and Leibler of both coins; ``magnitudes`` that of both
    densities of the logarithm, times the first rate, NaN where either is unknown.
    ``beyond_chance`` is what is left of all rates once each difference has paid for being told.
    """

    rates: Float64[Tensor, " component"]
    magnitudes: Float64[Tensor, " component"]
    beyond_chance: float

    @property
    def total(self) -> Float64[Tensor, " component"]:
        """Both together, what is unknown left out."""
        return self.rates + self.magnitudes.nan_to_num(nan=0.0)


def moves(first: Usage, second: Usage) -> Moves:
    """Hold two usages of the same components against each other.

    Raises:
        ConfigError: they are not of the same components.
    """
    if first.rates.shape != second.rates.shape:
        raise ConfigError(
            f"one has {len(first.rates)} components and the other {len(second.rates)}; compare "
            "baselines of one decomposition"
        )
    ours, theirs = first.rates.numpy(), second.rates.numpy()
    return Moves(
        torch.from_numpy(saved_bits(ours, theirs)),
        _magnitude_bits(first, second),
        refitted_bits(ours, theirs, inputs=first.inputs, trusted_inputs=second.inputs),
    )


def _magnitude_bits(first: Usage, second: Usage) -> Float64[Tensor, " component"]:
    one, two = first.magnitudes, second.magnitudes
    if one is None or two is None:
        return torch.full_like(first.rates, torch.nan)
    steps = torch.linspace(-_REACH, _REACH, _NODES, dtype=torch.float64).unsqueeze(1)
    away, widths = steps.sinh(), steps.cosh() * (2 * _REACH / (_NODES - 1))
    ours = _log_density(away, one.freedom[-1]) - one.scale[-1].log()
    placed = one.location[-1] + one.scale[-1] * away
    theirs = _log_density((placed - two.location[-1]) / two.scale[-1], two.freedom[-1])
    theirs = theirs - two.scale[-1].log()
    share = (ours + one.scale[-1].log()).exp() * widths
    nats = (share * (ours - theirs)).sum(dim=0).clamp_min(0.0)
    return first.rates * nats / math.log(2)


def _log_density(
    away: Float64[Tensor, "node _"], freedom: Float64[Tensor, " component"]
) -> Float64[Tensor, "node component"]:
    """Return the logarithm of Student's density."""
    half = freedom / 2
    height = torch.lgamma(half + 0.5) - torch.lgamma(half) - 0.5 * (freedom * math.pi).log()
    return height - (half + 0.5) * torch.log1p(away.square() / freedom)
