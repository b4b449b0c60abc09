"""Everything the codes of one site are fitted from, added up a batch at a time."""

from dataclasses import dataclass
from typing import TypeVar, final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from mad.codes.contexts import ContextMeans
from mad.codes.low_rank import WideMoments, probes
from mad.codes.magnitudes import MagnitudeMoments
from mad.codes.residual import MAX_COORDINATES
from mad.codes.statistics import Kept, KeptSets, ResidualMoments, SetCounts
from mad.fit.plan import FitPlan
from mad.types import Activity, Context


@final
@dataclass(frozen=True)
class Sampled:
    """The rows of one batch, and which of them are kept as active sets and as activations."""

    rows: Int64[Tensor, " batch"]
    sets: Bool[Tensor, " batch"]
    activations: Bool[Tensor, " batch"]


@final
@dataclass(frozen=True)
class SiteStatistics:
    """What the codes of one site are fitted from; a statistic that nothing needs is None.

    ``kept`` is also None where an earlier view has the same activations, hence neighbours.
    """

    counts: SetCounts
    sets: KeptSets
    moments: ResidualMoments | WideMoments
    kept: Kept | None
    means: ContextMeans | None
    magnitudes: MagnitudeMoments | None

    @staticmethod
    def of(
        activity: Activity,
        context: Context,
        sampled: Sampled,
        plan: FitPlan,
        *,
        keeps_neighbours: bool,
    ) -> "SiteStatistics":
        """Add up one batch."""
        place = sampled.activations
        return SiteStatistics(
            SetCounts.of(activity, context),
            KeptSets.of(activity, context, rows=sampled.rows, keep=sampled.sets),
            _moments(activity, plan.seed),
            Kept(sampled.rows[place], activity.activation[place]) if keeps_neighbours else None,
            ContextMeans.of(activity, context) if plan.residual_by_context else None,
            MagnitudeMoments.of(activity, context) if plan.magnitudes else None,
        )

    def merge(self, other: "SiteStatistics") -> "SiteStatistics":
        """Return the statistics of both parts of the data."""
        return SiteStatistics(
            self.counts.merge(other.counts),
            self.sets.merge(other.sets),
            _merged_moments(self.moments, other.moments),
            _merged(self.kept, other.kept),
            _merged(self.means, other.means),
            _merged(self.magnitudes, other.magnitudes),
        )

    @property
    def is_finite(self) -> bool:
        """Whether every residual was a finite number."""
        moments = self.moments
        spread = moments.squares if isinstance(moments, WideMoments) else moments.scatter
        return bool(torch.isfinite(spread).all())


_Statistic = TypeVar("_Statistic", Kept, ContextMeans, MagnitudeMoments)


def _merged(one: _Statistic | None, other: _Statistic | None) -> _Statistic | None:
    return None if one is None or other is None else one.merge(other)


def _moments(activity: Activity, seed: int) -> ResidualMoments | WideMoments:
    coordinates = activity.residual.shape[1]
    if coordinates <= MAX_COORDINATES:
        return ResidualMoments.of(activity)
    return WideMoments.of(activity, probes(coordinates, torch.Generator().manual_seed(seed)))


def _merged_moments(
    one: ResidualMoments | WideMoments, other: ResidualMoments | WideMoments
) -> ResidualMoments | WideMoments:
    if isinstance(one, WideMoments):
        assert isinstance(other, WideMoments)
        return one.merge(other)
    assert isinstance(other, ResidualMoments)
    return one.merge(other)
