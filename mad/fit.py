"""The fit flow, top to bottom: trusted data in, baseline out.

Trusted inputs are split once. The first part trains dictionaries and fits codes; the second, the
reference, is only ever scored. An input like the trusted ones is then exchangeable with the
reference, which is all that the false-alarm promise needs.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.baseline.bundle import Baseline, InputSpec, Manifest
from mad.calibration.conformal import required_reference, threshold
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.codes.accounting import CodedPart
from mad.codes.neighbours import MIN_KEPT, NeighbourCode
from mad.codes.residual import MAX_COORDINATES, GaussianCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.statistics import Kept, ResidualMoments, SetCounts
from mad.components.base import Decomposition
from mad.components.dictionaries.topk import TopKDictionary
from mad.components.dictionaries.train import (
    DictionaryFigures,
    DictionaryPlan,
    figures,
    train_topk,
)
from mad.components.pooling import pool
from mad.errors import ConfigError, InputError, MadError
from mad.scoring import ContextRule, Scorer, observe
from mad.types import Activity, Bits, Dataset, Inputs, Progress, Reference, Site

MAX_TRAINING_VECTORS = 200_000
"""Inputs a dictionary is trained on at most, drawn at random, so that they fit into memory."""


@final
@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """How to fit a baseline.

    ``reference_share`` is the share of trusted inputs held out. ``neighbours`` is how many trusted
    activations a site keeps to compare with, at most; 0 keeps none.
    """

    name: str
    false_alarm_rate: float = 0.01
    reference_share: float = 0.4
    context: ContextRule = "predicted"
    neighbours: int = 5_000
    batch_size: int = 256
    seed: int = 0


@final
@dataclass(frozen=True)
class Split:
    """Rows of the trusted data, ascending and disjoint."""

    fitting: Int64[Tensor, " fitting"]
    reference: Int64[Tensor, " reference"]


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


def split(count: int, plan: FitPlan) -> Split:
    """Divide trusted inputs at random.

    Raises:
        ConfigError: the reference would be too small for the false-alarm rate; says how many
            trusted inputs are needed.
    """
    held_out = int(count * plan.reference_share)
    needed = required_reference(plan.false_alarm_rate)
    if held_out < needed or count - held_out < 2:  # noqa: PLR2004  # a spread needs two
        total = max(int(needed / plan.reference_share) + 1, held_out + 2)
        raise ConfigError(
            f"{count} trusted inputs leave a reference of {held_out}, and a false-alarm rate of "
            f"{plan.false_alarm_rate:g} needs {needed}: give at least {total} trusted inputs, or "
            "raise the rate or the reference share"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed))
    return Split(order[held_out:].sort().values, order[:held_out].sort().values)


def train_dictionaries(
    model: MonitoredModel,
    sites: Sequence[Site],
    data: Dataset,
    plan: DictionaryPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> tuple[tuple[TopKDictionary, ...], tuple[DictionaryFigures, ...]]:
    """Train one dictionary a site on the fitting part of the trusted data, and measure each.

    Raises:
        ConfigError: the model fails on the data, or a site cannot be read or teaches nothing.
    """
    _try_out(model, sites, data)
    generator = torch.Generator().manual_seed(plan.seed)
    chosen = torch.randperm(len(rows), generator=generator)[:MAX_TRAINING_VECTORS].sort().values
    vectors = _vectors(model, sites, data, plan, rows=rows[chosen], progress=progress)
    dictionaries = []
    for site in sites:

        def step_done(step: int, unexplained: float, *, site: Site = site) -> None:
            note = f"unexplained variance {unexplained:.3f}"
            progress(f"training dictionary {site}", done=step, total=plan.steps, note=note)

        dictionaries.append(train_topk(site, vectors[site], plan, step_done=step_done))
    measured = tuple(figures(one, vectors[one.site]) for one in dictionaries)
    return tuple(dictionaries), measured


def fit(
    model: MonitoredModel,
    decomposition: Decomposition,
    data: Dataset,
    plan: FitPlan,
    *,
    created: datetime,
    progress: Progress,
) -> Baseline:
    """Fit codes on one part of the trusted data and calibrate them on the other.

    The same data and plan give the same baseline. Memory does not grow with the data.

    Raises:
        ConfigError: too few trusted inputs, a model that fails on them, a site that cannot be
            read, or an activation that is not a finite number.
    """
    parts_of_data = split(len(data), plan)
    first = _try_out(model, decomposition.sites, data)
    statistics = gather(
        model, decomposition, data, plan, rows=parts_of_data.fitting, progress=progress
    )
    parts = fit_codes(statistics, plan.context)
    scorer = Scorer(model, decomposition, parts, plan.context)
    reference = _reference(scorer, data, plan, rows=parts_of_data.reference, progress=progress)
    manifest = Manifest(
        name=plan.name,
        version=0,
        created=created,
        model_name=model.name,
        model_fingerprint=model.fingerprint,
        decomposition_fingerprint=decomposition.fingerprint,
        sites=decomposition.sites,
        inputs=tuple(_spec(name, first[name]) for name in model.inputs),
        context=plan.context,
        fit_inputs=len(parts_of_data.fitting),
        reference_inputs=len(parts_of_data.reference),
        false_alarm_rate=plan.false_alarm_rate,
        median_bits=float(reference.median()),
        threshold_bits=threshold(reference, plan.false_alarm_rate),
        seed=plan.seed,
        library_versions={"python": platform.python_version(), "torch": version("torch")},
    )
    return Baseline(manifest, parts, reference)


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
    for chosen, inputs in _batches(data, rows, plan.batch_size, "fitting codes", progress):
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


def _reference(
    scorer: Scorer,
    data: Dataset,
    plan: FitPlan,
    *,
    rows: Int64[Tensor, " reference"],
    progress: Progress,
) -> Reference:
    bits: list[Bits] = [
        scorer.score(inputs).ledger.surprise
        for _, inputs in _batches(data, rows, plan.batch_size, "calibrating", progress)
    ]
    reference = torch.cat(bits).sort().values
    if not reference.isfinite().all():
        broken = int(reference.isinf().sum())
        raise ConfigError(
            f"{broken} of {len(reference)} held-out trusted inputs give activations that are NaN "
            "or infinite; remove such inputs from the trusted data"
        )
    return reference


def _try_out(model: MonitoredModel, sites: Sequence[Site], data: Dataset) -> Inputs:
    """Run the model on the first trusted input, and return that input."""
    first = data.take(torch.tensor([0]))
    missing = sorted(set(model.inputs) - set(first))
    if missing:
        raise ConfigError(f"the trusted data have no {missing}; they hold {sorted(first)}")
    try:
        capture(model, sites, first)
    except MadError:
        raise
    except Exception as cause:
        given = {name: f"{first[name].dtype} {tuple(first[name].shape)}" for name in model.inputs}
        raise ConfigError(
            f"the model fails on the first trusted input, {given}: {cause}; give data of the types "
            "and shapes it takes, or change its factory"
        ) from cause
    return first


def _vectors(
    model: MonitoredModel,
    sites: Sequence[Site],
    data: Dataset,
    plan: DictionaryPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> dict[Site, Float[Tensor, "vector coordinate"]]:
    """Pool the activations of some rows, site by site."""
    pooled: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for _, inputs in _batches(data, rows, 256, "capturing activations", progress):
        activations = capture(model, sites, inputs).activations
        for site in sites:
            pooled[site].append(pool(activations[site], plan.pooling).float())
    return {site: torch.cat(parts) for site, parts in pooled.items()}


def _batches(
    data: Dataset, rows: Int64[Tensor, " rows"], size: int, stage: str, progress: Progress
) -> Iterator[tuple[Int64[Tensor, " batch"], Inputs]]:
    progress(stage, done=0, total=len(rows))
    done = 0
    for chosen in rows.split(size):
        yield chosen, data.take(chosen)
        done += len(chosen)
        progress(stage, done=done, total=len(rows))


def _spec(name: str, batch: Tensor) -> InputSpec:
    if batch.ndim == 0:
        raise InputError(f"input {name!r} has no batch axis")
    return InputSpec(name, str(batch.dtype).removeprefix("torch."), tuple(batch.shape[1:]))
