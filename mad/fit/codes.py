"""Add up what codes are fitted from over trusted data, and fit them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.codes.accounting import CodedPart
from mad.codes.neighbours import MIN_KEPT, NeighbourCode
from mad.codes.residual import MAX_COORDINATES, GaussianCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.statistics import Kept, ResidualMoments, SetCounts
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.fit.plan import FitPlan
from mad.fit.reading import batches
from mad.scoring import ContextRule, observe
from mad.types import Activity, Dataset, Progress, Site


@final
@dataclass(frozen=True)
class SiteStatistics:
    """What the codes of one site are fitted from."""

    counts: SetCounts
    moments: ResidualMoments
    kept: Kept

    def merge(self, other: "SiteStatistics") -> "SiteStatistics":
        """Return the statistics of both parts of the data."""
        return SiteStatistics(
            self.counts.merge(other.counts),
            self.moments.merge(other.moments),
            self.kept.merge(other.kept),
        )


def gather(
    model: MonitoredModel,
    decomposition: Decomposition,
    data: Dataset,
    plan: FitPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> dict[Site, SiteStatistics]:
    """Add up the statistics of every site over some rows of the data."""
    total: dict[Site, SiteStatistics] = {}
    generator = torch.Generator().manual_seed(plan.seed)
    sample = rows[torch.randperm(len(rows), generator=generator)[: plan.neighbours]]
    for chosen, inputs in batches(data, rows, plan.batch_size, "fitting codes", progress):
        seen = observe(model, decomposition, inputs, rule=plan.context)
        is_kept = torch.isin(chosen, sample)
        for site, activity in seen.activity.items():
            _check_width(site, activity)
            own = SiteStatistics(
                SetCounts.of(activity, seen.context),
                ResidualMoments.of(activity),
                Kept(chosen[is_kept], activity.activation[is_kept]),
            )
            total[site] = total[site].merge(own) if site in total else own
    for site, statistics in total.items():
        if not torch.isfinite(statistics.moments.scatter).all():
            raise ConfigError(f"site {site!r} gives NaN or infinite numbers on trusted inputs")
    return total


def _check_width(site: Site, activity: Activity) -> None:
    coordinates = activity.residual.shape[1]
    if coordinates > MAX_COORDINATES:
        raise ConfigError(
            f"site {site!r} has {coordinates} coordinates after pooling; the residual code takes "
            f"at most {MAX_COORDINATES}: choose pooling = 'mean_max' or a smaller site"
        )


def fit_codes(
    statistics: Mapping[Site, SiteStatistics], context: ContextRule
) -> tuple[CodedPart, ...]:
    """Fit the codes of each site.

    One for the active set, where there are components, one for the residual, and one for the
    neighbourhood, where enough activations were kept.
    """
    parts = []
    for site, of_site in statistics.items():
        if of_site.counts.active.shape[1]:
            kind = ConditionalCode if context == "predicted" else IndependentCode
            parts.append(CodedPart(site, "set", kind.fit(of_site.counts)))
        parts.append(CodedPart(site, "residual", GaussianCode.fit(of_site.moments)))
        if len(of_site.kept.rows) >= MIN_KEPT:
            parts.append(CodedPart(site, "neighbours", NeighbourCode.fit(of_site.kept)))
    return tuple(parts)
