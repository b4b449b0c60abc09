"""Everything the codes of one site are fitted from, added up a batch at a time."""

from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import TypeVar, final

import torch
from jaxtyping import Bool, Float64, Int64
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
        return replace(
            self.with_sums(other),
            sets=self.sets.merge(other.sets),
            kept=_merged(self.kept, other.kept),
        )

    def with_sums(self, other: "SiteStatistics") -> "SiteStatistics":
        """Return these with the sums of the other part added, and none of its samples."""
        return replace(
            self,
            counts=self.counts.merge(other.counts),
            moments=_merged_moments(self.moments, other.moments),
            means=_merged(self.means, other.means),
            magnitudes=_merged(self.magnitudes, other.magnitudes),
        )

    @property
    def is_finite(self) -> bool:
        """Whether every residual was a finite number."""
        moments = self.moments
        spread = moments.squares if isinstance(moments, WideMoments) else moments.scatter
        return bool(torch.isfinite(spread).all())


@final
@dataclass(frozen=True)
class Growing:
    """Statistics of one site to which many small batches are added.

    To merge samples costs as much as they hold, so those of batches wait, each more than twice as
    large as the next: what is kept is then copied a few times, and not once for every batch.
    Merging does not depend on order, so these are the statistics that batches merged one by one
    would give, bit for bit. Of ``sums`` the samples do not count.
    """

    sums: SiteStatistics
    sets: tuple[KeptSets, ...]
    kept: tuple[Kept, ...]

    @staticmethod
    def of(first: SiteStatistics) -> "Growing":
        """Start with one batch."""
        return Growing(first, (first.sets,), () if first.kept is None else (first.kept,))

    def add(self, batch: SiteStatistics) -> "Growing":
        """Return the statistics with one more batch."""
        kept = () if batch.kept is None else _piled(self.kept, batch.kept)
        return Growing(self.sums.with_sums(batch), _piled(self.sets, batch.sets), kept)

    @property
    def statistics(self) -> SiteStatistics:
        """Merge the samples that wait."""
        sets = reduce(KeptSets.merge, reversed(self.sets))
        kept = reduce(Kept.merge, reversed(self.kept)) if self.kept else None
        return replace(self.sums, sets=sets, kept=kept)


_Sample = TypeVar("_Sample", KeptSets, Kept)


def _piled(pile: tuple[_Sample, ...], sample: _Sample) -> tuple[_Sample, ...]:
    """Put a sample on a pile in which each is more than twice as large as the next."""
    waiting = list(pile)
    while waiting and len(waiting[-1].rows) <= 2 * len(sample.rows):
        sample = waiting.pop().merge(sample)
    waiting.append(sample)
    return tuple(waiting)


_Statistic = TypeVar("_Statistic", Kept, ContextMeans, MagnitudeMoments)


def _merged(one: _Statistic | None, other: _Statistic | None) -> _Statistic | None:
    return None if one is None or other is None else one.merge(other)


def _moments(activity: Activity, seed: int) -> ResidualMoments | WideMoments:
    coordinates = activity.residual.shape[1]
    if coordinates <= MAX_COORDINATES:
        return ResidualMoments.of(activity)
    return WideMoments.of(activity, _probes(coordinates, seed))


@lru_cache(maxsize=8)
def _probes(coordinates: int, seed: int) -> Float64[Tensor, "coordinate probe"]:
    """Draw them once and not for every batch: to make them orthonormal takes as long as a batch."""
    return probes(coordinates, torch.Generator().manual_seed(seed))


def _merged_moments(
    one: ResidualMoments | WideMoments, other: ResidualMoments | WideMoments
) -> ResidualMoments | WideMoments:
    if isinstance(one, WideMoments):
        assert isinstance(other, WideMoments)
        return one.merge(other)
    assert isinstance(other, ResidualMoments)
    return one.merge(other)
