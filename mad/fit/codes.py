"""Gather the statistics of every site over trusted data, and fit the codes from them."""

from collections.abc import Callable, Collection, Iterator, Mapping

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.codes.accounting import CodedPart
from mad.codes.base import Code, SetCode
from mad.codes.bayes import BayesCode
from mad.codes.low_rank import LowRankCode, WideMoments
from mad.codes.magnitudes import MagnitudeCode
from mad.codes.neighbours import MIN_KEPT, NeighbourCode
from mad.codes.output import OutputCode
from mad.codes.residual import GaussianCode
from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.mixture import MixtureCode
from mad.codes.sets.nearest import NearestSetsCode
from mad.codes.sets.size_index import SizeIndexCode
from mad.codes.sets.worst_pair import WorstPairCode
from mad.components.base import Decomposition
from mad.components.parameters.masked import MASKED
from mad.errors import ConfigError
from mad.fit.pairs import pairs_part
from mad.fit.plan import FitPlan, SetCodeName
from mad.fit.reading import Reader
from mad.fit.statistics import Growing, Sampled, SiteStatistics
from mad.scoring import observe
from mad.types import Activity, Site

MAX_KEPT_SETS = 20_000
"""Active sets a site keeps while its codes are fitted; what they tell needs no more."""


def gather(
    model: MonitoredModel,
    decomposition: Decomposition,
    reader: Reader,
    plan: FitPlan,
    *,
    rows: Int64[Tensor, " fitting"],
) -> dict[Site, SiteStatistics]:
    """Add up the statistics of every site over some rows of the data.

    Raises:
        ConfigError: an activation is not a finite number, or alerts are to go by a mechanism where
            there are no components.
    """
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(plan.seed))]
    sets, activations = (
        torch.zeros(len(reader.data), dtype=torch.bool).index_fill_(0, order[:most], value=True)
        for most in (MAX_KEPT_SETS, plan.neighbours)
    )
    total: dict[Site, Growing] = {}
    for chosen, inputs in reader.batches("fitting codes", rows, total):
        seen = observe(model, decomposition, inputs, rule=plan.context, activity=plan.activity)
        _check_measured(seen.activity, plan)
        sampled = Sampled(chosen, sets[chosen], activations[chosen])
        distinct = {site for site, one in total.items() if one.kept} or _distinct(seen.activity)
        for site, activity in seen.activity.items():
            own = SiteStatistics.of(
                activity, seen.context, sampled, plan, keeps_neighbours=site in distinct
            )
            if not own.is_finite:
                raise ConfigError(f"site {site!r} gives NaN or infinite numbers on trusted inputs")
            total[site] = total[site].add(own) if site in total else Growing.of(own)
    return {site: growing.statistics for site, growing in total.items()}


def _check_measured(activity: Mapping[Site, Activity], plan: FitPlan) -> None:
    """Refuse a measure that would be the same for every input."""
    if plan.alert_on == "mechanism" and not any(one.num_components for one in activity.values()):
        raise ConfigError(
            f"alerts are to go by the mechanism, and {sorted(activity)} have no components, so "
            'nothing would ever alert: train dictionaries, or set alert_on to "novelty" or '
            '"surprise"'
        )


def _distinct(activity: Mapping[Site, Activity]) -> set[Site]:
    """Return the views whose activations no earlier one has.

    Not that of the masked model: which way it errs on trusted inputs tells nothing of others.
    """
    found: dict[Site, Tensor] = {}
    for site, one in activity.items():
        is_new = not any(torch.equal(one.activation, other) for other in found.values())
        if is_new and site != MASKED:
            found[site] = one.activation
    return set(found)


def fit_codes(
    statistics: Mapping[Site, SiteStatistics], plan: FitPlan, *, together: Collection[Site] = ()
) -> tuple[CodedPart, ...]:
    """Fit the codes of each site.

    For the active set, where there are components, and for the output given the set, where there
    is one; for the residual; and for the neighbourhood, where enough activations were kept. Last
    comes a code of which components of the sites ``together`` are active with which, if any is.
    """
    parts = [part for site, of_site in statistics.items() for part in _parts(site, of_site, plan)]
    pairs = pairs_part({site: statistics[site] for site in together}) if together else None
    return tuple(parts) if pairs is None else (*parts, pairs)


def _parts(site: Site, statistics: SiteStatistics, plan: FitPlan) -> Iterator[CodedPart]:
    counts, kept = statistics.counts, statistics.kept
    if counts.active.shape[1]:
        independent = IndependentCode.fit(counts)
        memory = (
            NearestSetsCode.fit(statistics.sets, counts) if plan.neighbours >= MIN_KEPT else None
        )
        yield CodedPart(site, "set", _set_code(statistics, plan), independent, memory)
        if (counts.contexts >= 0).any():
            yield CodedPart(site, "output", OutputCode.fit(statistics.sets, counts))
        if statistics.magnitudes is not None:
            yield CodedPart(site, "magnitudes", MagnitudeCode.fit(statistics.magnitudes))
    yield CodedPart(site, "residual", _residual_code(statistics))
    if kept is not None and len(kept.rows) >= MIN_KEPT:
        yield CodedPart(site, "neighbours", NeighbourCode.fit(kept))


def _set_code(statistics: SiteStatistics, plan: FitPlan) -> SetCode:
    sets, counts = statistics.sets, statistics.counts
    fitted: Mapping[SetCodeName, Callable[[], SetCode]] = {
        "independent": lambda: IndependentCode.fit(counts),
        "conditional": lambda: ConditionalCode.fit(counts),
        "mixture": lambda: MixtureCode.fit(sets, counts, seed=plan.seed),
        "experts": lambda: ExpertsCode.fit(sets, counts, seed=plan.seed),
        "tree": lambda: TreeCode.fit(sets, counts),
        "nearest_sets": lambda: NearestSetsCode.fit(sets, counts),
        "worst_pair": lambda: WorstPairCode.fit(sets, counts),
        "size_index": lambda: SizeIndexCode.fit(sets, counts),
    }
    if plan.set_code == "clusters":
        return BayesCode.of((fitted["mixture"](), fitted["experts"]()))
    return fitted[plan.set_code]()


def _residual_code(statistics: SiteStatistics) -> Code:
    if isinstance(statistics.moments, WideMoments):
        return LowRankCode.fit(statistics.moments, statistics.means)
    return GaussianCode.fit(statistics.moments, statistics.means)
