"""Train dictionaries on the fitting part of trusted data."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryFigures, DictionaryPlan
from mad.components.dictionaries.train import figures, train
from mad.components.dictionaries.training import StepFigures
from mad.components.pooling import pool, poolings
from mad.fit.reading import batches, row_digests, try_out
from mad.fit.sizes import second_dictionary
from mad.types import Dataset, Progress, Site

MAX_TRAINING_VECTORS = 200_000
"""Inputs a dictionary is trained on at most, drawn at random, so that they fit into memory."""


@final
@dataclass(frozen=True)
class Trained:
    """Dictionaries, how good they are, and digests of the inputs they have seen."""

    dictionaries: tuple[Dictionary, ...]
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
    """Train dictionaries on the fitting part of the trusted data, and measure each.

    One for each view of a site that the plan's pooling asks for, and where it searches, a second
    one, ``view:w128k6`` for its size, if that describes the view much shorter (see ``sizes``).

    Raises:
        ConfigError: the model fails on the data, or a site cannot be read or teaches nothing.
    """
    try_out(model, sites, data)
    generator = torch.Generator().manual_seed(plan.seed)
    chosen = torch.randperm(len(rows), generator=generator)[:MAX_TRAINING_VECTORS].sort().values
    vectors, seen = _vectors(model, sites, data, plan, rows=rows[chosen], progress=progress)
    dictionaries: list[Dictionary] = []
    measured: list[DictionaryFigures] = []
    for look, of_view in vectors.items():
        own = _train_view(look, of_view, plan, progress=progress)
        dictionaries += own
        measured += [figures(one, of_view) for one in own]
    return Trained(tuple(dictionaries), tuple(measured), seen)


def _vectors(
    model: MonitoredModel,
    sites: Sequence[Site],
    data: Dataset,
    plan: DictionaryPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> tuple[dict[Look, Float[Tensor, "vector coordinate"]], Int64[Tensor, " vector"]]:
    """Pool the activations of some rows in every way asked for, and digest the inputs."""
    pooled: dict[Look, list[Tensor]] = defaultdict(list)
    digests = []
    for _, inputs in batches(data, rows, 256, "capturing activations", progress):
        digests.append(row_digests(inputs))
        activations = capture(model, sites, inputs).activations
        for site in sites:
            for suffix, pooling in poolings(activations[site], plan.pooling).items():
                vectors = pool(activations[site], pooling).float()
                pooled[Look.at(site, pooling, suffix)].append(vectors)
    return {look: torch.cat(parts) for look, parts in pooled.items()}, torch.cat(digests)


def _train_view(
    look: Look,
    vectors: Float[Tensor, "vector coordinate"],
    plan: DictionaryPlan,
    *,
    progress: Progress,
) -> list[Dictionary]:
    first = _train(look, vectors, plan, progress=progress)
    if not plan.search:
        return [first]
    second = second_dictionary(first, vectors, plan, progress=progress)
    return [first] if second is None else [first, second]


def _train(
    look: Look,
    vectors: Float[Tensor, "vector coordinate"],
    plan: DictionaryPlan,
    *,
    progress: Progress,
) -> Dictionary:
    stage = f"training dictionary {look.view}"

    def step_done(step: int, found: StepFigures) -> None:
        note = f"unexplained variance {found.unexplained:.3f}"
        progress(stage, done=step, total=plan.steps, note=note)

    return train(look, Examples.own(vectors), plan, step_done=step_done)
