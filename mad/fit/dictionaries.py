"""Train dictionaries on the fitting part of trusted data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.topk import TopKDictionary
from mad.components.dictionaries.train import (
    DictionaryFigures,
    DictionaryPlan,
    figures,
    train_topk,
)
from mad.components.pooling import pool
from mad.fit.reading import batches, row_digests, try_out
from mad.types import Dataset, Progress, Site

MAX_TRAINING_VECTORS = 200_000
"""Inputs a dictionary is trained on at most, drawn at random, so that they fit into memory."""


@final
@dataclass(frozen=True)
class Trained:
    """Dictionaries, how good they are, and digests of the inputs they have seen."""

    dictionaries: tuple[TopKDictionary, ...]
    figures: tuple[DictionaryFigures, ...]
    seen: Int64[Tensor, " seen"]


def train_dictionaries(
    model: MonitoredModel,
    sites: Sequence[Site],
    data: Dataset,
    plan: DictionaryPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> Trained:
    """Train one dictionary a site on the fitting part of the trusted data, and measure each.

    Raises:
        ConfigError: the model fails on the data, or a site cannot be read or teaches nothing.
    """
    try_out(model, sites, data)
    generator = torch.Generator().manual_seed(plan.seed)
    chosen = torch.randperm(len(rows), generator=generator)[:MAX_TRAINING_VECTORS].sort().values
    vectors, seen = _vectors(model, sites, data, plan, rows=rows[chosen], progress=progress)
    dictionaries = []
    for site in sites:

        def step_done(step: int, unexplained: float, *, site: Site = site) -> None:
            note = f"unexplained variance {unexplained:.3f}"
            progress(f"training dictionary {site}", done=step, total=plan.steps, note=note)

        dictionaries.append(train_topk(site, vectors[site], plan, step_done=step_done))
    measured = tuple(figures(one, vectors[one.site]) for one in dictionaries)
    return Trained(tuple(dictionaries), measured, seen)


def _vectors(
    model: MonitoredModel,
    sites: Sequence[Site],
    data: Dataset,
    plan: DictionaryPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> tuple[dict[Site, Float[Tensor, "vector coordinate"]], Int64[Tensor, " vector"]]:
    """Pool the activations of some rows, site by site, and digest the inputs."""
    pooled: dict[Site, list[Tensor]] = {site: [] for site in sites}
    digests = []
    for _, inputs in batches(data, rows, 256, "capturing activations", progress):
        digests.append(row_digests(inputs))
        activations = capture(model, sites, inputs).activations
        for site in sites:
            pooled[site].append(pool(activations[site], plan.pooling).float())
    return {site: torch.cat(parts) for site, parts in pooled.items()}, torch.cat(digests)
