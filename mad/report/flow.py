"""The accounting flow, top to bottom: model, decomposition and trusted data in, accounting out.

A bounded sample settles the grid of each site and how precisely magnitudes are said. Codes are
then fitted on all fitting inputs, and measured on all others; memory does not grow with the data.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.fit.reading import batches, try_out
from mad.report.accounting import NOTHING, Accounting, SiteAccount
from mad.report.fitting import Fitted, SaidStatistics
from mad.report.measuring import Heading, Tally, settle
from mad.report.precision import Batch, Chosen, Trial, decomposed, principal
from mad.scoring import ContextRule, observe
from mad.types import Activity, Dataset, Progress, Site

SAMPLE = 4_096
"""Fitting inputs that settle grid and precision, and whose sets teach the mixtures."""

MAX_COORDINATES = 4_096
"""Wider sites are refused: a covariance grows with the square."""

BATCH = 256
NEURONS, PRINCIPAL = "neurons", "PCA"

_Key: TypeAlias = tuple[Site, str]


@final
@dataclass(frozen=True, kw_only=True)
class AccountingPlan:
    """What to account for, and how finely.

    ``name`` is what the decomposition is called. ``relative_step`` is the width of each site's
    grid, as a share of the root mean square deviation of its coordinates.
    """

    name: str = "dictionary"
    relative_step: float = 0.01
    seed: int = 0


@final
@dataclass(frozen=True)
class Source:
    """Trusted data, and how they become activity."""

    model: MonitoredModel
    decomposition: Decomposition
    data: Dataset
    rule: ContextRule

    def read(
        self, rows: Int64[Tensor, " rows"], stage: str, progress: Progress, *, size: int = BATCH
    ) -> Iterator[Mapping[Site, Batch]]:
        """Run the model on some rows, a batch at a time; ConfigError if it gives no numbers."""
        for chosen, inputs in batches(self.data, rows, size, stage, progress):
            seen = observe(self.model, self.decomposition, inputs, rule=self.rule)
            for site, activity in seen.activity.items():
                _check(site, activity)
            yield {
                site: Batch(chosen, activity, seen.context)
                for site, activity in seen.activity.items()
            }


@final
@dataclass(frozen=True)
class Rows:
    """Rows of the trusted data, ascending and disjoint: to fit codes on, and to measure on."""

    fitting: Int64[Tensor, " fitting"]
    held_out: Int64[Tensor, " held_out"]

    @staticmethod
    def of(fitting: Int64[Tensor, " fitting"], *, inputs: int) -> "Rows":
        """Hold out whatever is not fitted on."""
        is_held_out = torch.ones(inputs, dtype=torch.bool)
        is_held_out[fitting] = False
        return Rows(fitting, is_held_out.nonzero()[:, 0])


def account(source: Source, rows: Rows, plan: AccountingPlan, *, progress: Progress) -> Accounting:
    """Describe the trusted data in neurons, in principal directions, and in the decomposition.

    The same data and plan give the same accounting.

    Raises:
        ConfigError: the model fails on the data, or a site cannot be read.
    """
    try_out(source.model, source.decomposition.sites, source.data)
    inputs = len(rows.fitting) + len(rows.held_out)
    sample = _sample(rows.fitting, plan.seed)
    chosen = _vocabularies(source, sample, plan, inputs=inputs, progress=progress)
    fitted = _fit(source, rows.fitting, sample, chosen, seed=plan.seed, progress=progress)
    tallies: dict[_Key, Tally] = {}
    for batch in source.read(rows.held_out, "measuring", progress):
        for (site, vocabulary), codes in fitted.items():
            own = Tally.of(codes, batch[site].activity, batch[site].context)
            before = tallies.get((site, vocabulary))
            tallies[site, vocabulary] = own if before is None else before.merge(own)
    accounts: dict[_Key, SiteAccount] = {}
    for key, codes in fitted.items():
        site = key[0]
        silence = accounts[site, NEURONS].set if key[1] != NEURONS else NOTHING
        heading = Heading(site, key[1], chosen[key].alternatives)
        accounts[key] = settle(codes, tallies[key], heading, inputs=inputs, silence=silence)
    return Accounting(inputs, len(rows.fitting), len(rows.held_out), tuple(accounts.values()))


def _check(site: Site, activity: Activity) -> None:
    width = activity.activation.shape[1]
    if width > MAX_COORDINATES:
        raise ConfigError(
            f"site {site!r} has {width} coordinates after pooling, and principal directions are "
            f"found among at most {MAX_COORDINATES}: choose pooling = 'mean_max' or a smaller site"
        )
    if not torch.isfinite(activity.activation).all():
        raise ConfigError(
            f"site {site!r} gives NaN or infinite numbers on trusted inputs; take the inputs out "
            "that do this, or name another site"
        )


def _sample(fitting: Int64[Tensor, " fitting"], seed: int) -> Int64[Tensor, " sample"]:
    order = torch.randperm(len(fitting), generator=torch.Generator().manual_seed(seed))
    return fitting[order[:SAMPLE]].sort().values


def _vocabularies(
    source: Source,
    sample: Int64[Tensor, " sample"],
    plan: AccountingPlan,
    *,
    inputs: int,
    progress: Progress,
) -> dict[_Key, Chosen]:
    """Settle the grid of each site, and every way to describe its points; neurons come first."""
    half = max(1, min(BATCH, len(sample) // 2))
    seen = list(source.read(sample, "settling the grid", progress, size=half))
    chosen: dict[_Key, Chosen] = {}
    for site in source.decomposition.views:
        own = [batch[site] for batch in seen]
        trial = Trial.of(own, relative_step=plan.relative_step, inputs=inputs)
        chosen[site, NEURONS] = Chosen(trial.neurons, 1)
        chosen[site, PRINCIPAL] = principal(trial)
        chosen[site, plan.name] = decomposed(trial, source.decomposition, site)
    return chosen


def _fit(
    source: Source,
    fitting: Int64[Tensor, " fitting"],
    sample: Int64[Tensor, " sample"],
    chosen: Mapping[_Key, Chosen],
    *,
    seed: int,
    progress: Progress,
) -> dict[_Key, Fitted]:
    statistics: dict[_Key, SaidStatistics] = {}
    for batch in source.read(fitting, "fitting codes", progress):
        for (site, vocabulary), one_chosen in chosen.items():
            one = batch[site]
            own = SaidStatistics.of(
                one_chosen.vocabulary,
                one.activity,
                one.context,
                rows=one.rows,
                keep=torch.isin(one.rows, sample),
            )
            before = statistics.get((site, vocabulary))
            statistics[site, vocabulary] = own if before is None else before.merge(own)
    return {
        key: Fitted.fit(one.vocabulary, statistics[key], seed=seed) for key, one in chosen.items()
    }
