"""Gather the statistics of every site over trusted data, and fit the codes from them."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.codes.accounting import CodedPart
from mad.codes.base import Code
from mad.codes.bayes import BayesCode
from mad.codes.low_rank import LowRankCode, WideMoments
from mad.codes.magnitudes import MagnitudeCode
from mad.codes.neighbours import MIN_KEPT, NeighbourCode
from mad.codes.output import OutputCode
from mad.codes.residual import GaussianCode
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.mixture import MixtureCode
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.fit.plan import FitPlan
from mad.fit.reading import batches
from mad.fit.statistics import Sampled, SiteStatistics
from mad.scoring import observe
from mad.types import Activity, Dataset, Progress, Site

MAX_KEPT_SETS = 20_000
"""Active sets a site keeps while its codes are fitted; what they tell needs no more."""


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
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(plan.seed))]
    sets, activations = order[:MAX_KEPT_SETS], order[: plan.neighbours]
    distinct: set[Site] = set()
    for chosen, inputs in batches(data, rows, plan.batch_size, "fitting codes", progress):
        seen = observe(model, decomposition, inputs, rule=plan.context)
        sampled = Sampled(chosen, torch.isin(chosen, sets), torch.isin(chosen, activations))
        distinct = distinct or _distinct(seen.activity)
        for site, activity in seen.activity.items():
            own = SiteStatistics.of(
                activity, seen.context, sampled, plan, keeps_neighbours=site in distinct
            )
            total[site] = total[site].merge(own) if site in total else own
    for site, statistics in total.items():
        if not statistics.is_finite:
            raise ConfigError(f"site {site!r} gives NaN or infinite numbers on trusted inputs")
    return total


def _distinct(activity: Mapping[Site, Activity]) -> set[Site]:
    """Return the views whose activations no earlier one has."""
    found: dict[Site, Tensor] = {}
    for site, one in activity.items():
        if not any(torch.equal(one.activation, other) for other in found.values()):
            found[site] = one.activation
    return set(found)


def fit_codes(statistics: Mapping[Site, SiteStatistics], plan: FitPlan) -> tuple[CodedPart, ...]:
    """Fit the codes of each site.

    For the active set and the output given the set, where there are components; for the residual;
    and for the neighbourhood, where enough activations were kept.
    """
    return tuple(
        part for site, of_site in statistics.items() for part in _parts(site, of_site, plan)
    )


def _parts(site: Site, statistics: SiteStatistics, plan: FitPlan) -> Iterator[CodedPart]:
    counts, kept = statistics.counts, statistics.kept
    if counts.active.shape[1]:
        independent = IndependentCode.fit(counts)
        clusters = MixtureCode.fit(statistics.sets, counts, seed=plan.seed)
        experts = ExpertsCode.fit(statistics.sets, counts, seed=plan.seed)
        yield CodedPart(site, "set", BayesCode.of((clusters, experts)), independent)
        if plan.context == "predicted":
            yield CodedPart(site, "output", OutputCode.fit(statistics.sets, counts))
        if statistics.magnitudes is not None:
            yield CodedPart(site, "magnitudes", MagnitudeCode.fit(statistics.magnitudes))
    yield CodedPart(site, "residual", _residual_code(statistics))
    if kept is not None and len(kept.rows) >= MIN_KEPT:
        yield CodedPart(site, "neighbours", NeighbourCode.fit(kept))


def _residual_code(statistics: SiteStatistics) -> Code:
    if isinstance(statistics.moments, WideMoments):
        return LowRankCode.fit(statistics.moments, statistics.means)
    return GaussianCode.fit(statistics.moments, statistics.means)
