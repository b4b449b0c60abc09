"""The accounting flow, top to bottom: model, decomposition and trusted data in, accounting out.

A bounded sample settles the grid of each site and how precisely magnitudes are said. Codes are
then fitted on all fitting inputs, and measured on all others; memory does not grow with the data.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.fit import Split
from mad.fit.reading import batches, try_out
from mad.report.accounting import Accounting
from mad.report.fitting import Fitted, SaidStatistics
from mad.report.measuring import Tally, settle
from mad.report.precision import PITCHES, Batch, grid_step, words_of
from mad.report.vocabularies import Directions, Neurons, Vocabulary
from mad.scoring import ContextRule, observe
from mad.types import Dataset, Progress, Site

SAMPLE = 4_096
"""Fitting inputs that settle grid and precision, and whose sets teach the mixtures."""

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
                if not torch.isfinite(activity.activation).all():
                    raise ConfigError(
                        f"site {site!r} gives NaN or infinite numbers on trusted inputs; take the "
                        "inputs out that do this, or name another site"
                    )
            yield {
                site: Batch(chosen, activity, seen.context)
                for site, activity in seen.activity.items()
            }


def account(source: Source, rows: Split, plan: AccountingPlan, *, progress: Progress) -> Accounting:
    """Describe the trusted data in neurons, in principal directions, and in the decomposition.

    The same data and plan give the same accounting.

    Raises:
        ConfigError: the model fails on the data, or a site cannot be read.
    """
    try_out(source.model, source.decomposition.sites, source.data)
    inputs = len(rows.fitting) + len(rows.reference)
    sample = _sample(rows.fitting, plan.seed)
    words = _vocabularies(source, sample, plan, inputs=inputs, progress=progress)
    fitted = _fit(source, rows.fitting, sample, words, seed=plan.seed, progress=progress)
    tallies: dict[_Key, Tally] = {}
    for batch in source.read(rows.reference, "measuring", progress):
        for (site, vocabulary), codes in fitted.items():
            own = Tally.of(codes, batch[site].activity, batch[site].context)
            before = tallies.get((site, vocabulary))
            tallies[site, vocabulary] = own if before is None else before.merge(own)
    return Accounting(
        inputs,
        len(rows.fitting),
        len(rows.reference),
        tuple(
            settle(
                fitted[key],
                tallies[key],
                site=key[0],
                name=key[1],
                pitches=len(PITCHES) if key[1] == plan.name else 1,
                inputs=inputs,
            )
            for key in fitted
        ),
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
) -> dict[_Key, Vocabulary]:
    """Settle the grid of each site, and every way to describe its points."""
    half = max(1, min(BATCH, len(sample) // 2))
    seen = list(source.read(sample, "settling the grid", progress, size=half))
    words: dict[_Key, Vocabulary] = {}
    for site in source.decomposition.sites:
        own = [batch[site] for batch in seen]
        step = grid_step(own, relative=plan.relative_step)
        first = own[0].activity
        nothing: Float64[Tensor, "none coordinate"] = first.activation[:0].double()
        origin = torch.zeros_like(first.activation[0])
        words[site, NEURONS] = Neurons(step, first.activation.shape[1])
        words[site, PRINCIPAL] = Directions.of(origin, nothing, step=step, pitch=step)
        words[site, plan.name] = words_of(source.decomposition, site, own, step=step, inputs=inputs)
    return words


def _fit(
    source: Source,
    fitting: Int64[Tensor, " fitting"],
    sample: Int64[Tensor, " sample"],
    words: Mapping[_Key, Vocabulary],
    *,
    seed: int,
    progress: Progress,
) -> dict[_Key, Fitted]:
    statistics: dict[_Key, SaidStatistics] = {}
    for batch in source.read(fitting, "fitting codes", progress):
        for (site, vocabulary), own_words in words.items():
            one = batch[site]
            own = SaidStatistics.of(
                own_words,
                one.activity,
                one.context,
                rows=one.rows,
                keep=torch.isin(one.rows, sample),
            )
            before = statistics.get((site, vocabulary))
            statistics[site, vocabulary] = own if before is None else before.merge(own)
    return {key: Fitted.fit(words[key], statistics[key], seed=seed) for key in words}
