"""The comparison, top to bottom: model, decomposition and trusted data in, a report out.

Inputs that no dictionary has seen are run, forward and backward; then each of some of their nodes
is changed and the model is run again, which says what the estimates are worth.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.hooks import capture
from mad.components.base import Decomposition
from mad.effects import (
    METHODS,
    Answer,
    Changes,
    Components,
    Experiment,
    Heads,
    Method,
    Nodes,
    Parts,
    Where,
    sites_of,
)
from mad.errors import ConfigError
from mad.fit.reading import batches, try_out
from mad.report.dictionary import Source
from mad.report.effects.agreement import Agreement, Curve, Pairs
from mad.scoring import MAX_BY_EFFECT
from mad.types import Activations, Progress, Site

Reference: TypeAlias = Literal["other", "mean", "zero"]
"""What stands in the place of a node that is no component: what another trusted input gives, the
mean over trusted inputs, or zero."""

BATCH: Final = 8
"""Inputs whose changes are in memory at once."""

_MEAN_OF: Final = 256


@final
@dataclass(frozen=True)
class EffectsPlan:
    """What to change, of how many inputs, and what to be content with.

    Nodes are the components of the decomposition, queries, keys and values of the heads of the
    attentions that ``where`` describes, and the outputs of ``sites``, whole or by coordinate. Of
    each kind at most ``most`` nodes of an input, drawn at random, are changed. ``top`` nodes of an
    input, those of largest effect, are what methods ought to find.
    """

    where: Where
    sites: tuple[Site, ...] = ()
    by_coordinate: bool = False
    by_position: bool = False
    reference: Reference = "other"
    inputs: int = 32
    most: int = 64
    top: int = 8
    seed: int = 0


@final
@dataclass(frozen=True)
class EffectsReport:
    """How well each method agrees with running the model again.

    ``components`` are the kinds of nodes that are views of the decomposition; ``kept`` how many of
    a view are active by effect, at most. ``whole`` is of all nodes together.
    """

    model: str
    answer: Answer
    inputs: int
    top: int
    kept: int
    branches: int
    attentions: int
    kinds: tuple[Agreement, ...]
    components: frozenset[str]
    whole: Agreement
    curves: tuple[Curve, ...]


def compare(source: Source, plan: EffectsPlan, *, progress: Progress) -> EffectsReport:
    """Estimate and measure the effects of each kind of node.

    The same data and plan give the same report.

    Raises:
        ConfigError: the model fails on the data, its answer cannot be differentiated, an attention
            is not as described, or no node of any input is active.
    """
    nodes = _nodes(source.decomposition, plan)
    try_out(source.model, sites_of(nodes, plan.where), source.data)
    parts: dict[str, list[Pairs]] = {}
    for part in _measured(source, nodes, plan, progress):
        parts.setdefault(part.name, []).append(part)
    kinds = [Pairs.joined(some, name) for name, some in parts.items()]
    whole = Pairs.joined(kinds, "all")
    if not len(whole.truth):
        raise ConfigError(
            "no component is active on any held-out input, so nothing has an effect; train the "
            "dictionaries for longer, or name more of the model in [effects]"
        )
    return EffectsReport(
        model=source.model.name,
        answer=plan.where.answer,
        inputs=min(plan.inputs, len(source.held_out)),
        top=plan.top,
        kept=MAX_BY_EFFECT,
        branches=len(plan.where.branches),
        attentions=len(plan.where.attentions),
        kinds=tuple(Agreement.of(one, top=plan.top) for one in kinds if len(one.truth)),
        components=frozenset(source.decomposition.views),
        whole=Agreement.of(whole, top=plan.top),
        curves=tuple(
            Curve(method, _runs(method, plan.where), whole.curve(method, top=plan.top))
            for method in METHODS
        ),
    )


def _nodes(decomposition: Decomposition, plan: EffectsPlan) -> tuple[Nodes, ...]:
    heads = [Heads(one, by_position=plan.by_position) for one in plan.where.attentions]
    parts = None if plan.by_coordinate else 1
    sites = [Parts(site, parts, by_position=plan.by_position) for site in plan.sites]
    return (Components(decomposition), *heads, *sites)


def _runs(method: Method, where: Where) -> int:
    """Return what a method costs in runs: one forward, and two for each backward pass."""
    backward = max(1, len(where.branches)) if method in ("drop", "star") else 1
    return 1 + 2 * backward


def _measured(
    source: Source, nodes: tuple[Nodes, ...], plan: EffectsPlan, progress: Progress
) -> Iterator[Pairs]:
    generator = torch.Generator().manual_seed(plan.seed)
    rows, others = (
        some[torch.randperm(len(some), generator=generator)[:count]]
        for some, count in ((source.held_out, plan.inputs), (source.fitting, _MEAN_OF))
    )
    sites = sites_of(nodes, plan.where)
    mean = _mean(source, sites, others) if plan.reference == "mean" else None
    begin = 0
    for _, inputs in batches(source.data, rows.sort().values, BATCH, "changing nodes", progress):
        count = len(next(iter(inputs.values())))
        reference = mean
        if plan.reference == "other":
            chosen = others[torch.arange(begin, begin + count) % len(others)]
            reference = _together(source, sites, chosen)
        found = Experiment.of(source.model, nodes, inputs, reference=reference, where=plan.where)
        yield from _pairs(found, plan, begin, generator)
        begin += count


def _together(
    source: Source, sites: tuple[Site, ...], rows: Int64[Tensor, " chosen"]
) -> Activations:
    """Return what the sites give for some trusted inputs, in this order."""
    ascending, place = rows.unique(return_inverse=True)
    seen = capture(source.model, sites, source.data.take(ascending)).activations
    return {site: found[place] for site, found in seen.items()}


def _mean(source: Source, sites: tuple[Site, ...], rows: Int64[Tensor, " chosen"]) -> Activations:
    seen = _together(source, sites, rows)
    return {site: found.mean(dim=0, keepdim=True) for site, found in seen.items()}


def _pairs(
    experiment: Experiment, plan: EffectsPlan, begin: int, generator: torch.Generator
) -> Iterator[Pairs]:
    chosen = [_some(one, plan.most, generator) for one in experiment.changes]
    estimates = {method: experiment.estimates(method) for method in METHODS}
    truths = experiment.ablations(chosen=chosen)
    for place, truth in enumerate(truths):
        one, pairs = experiment.changes[place], chosen[place]
        yield Pairs(
            one.name,
            one.rows[pairs] + begin,
            one.nodes[pairs],
            truth,
            {method: estimates[method][place][pairs] for method in METHODS},
        )


def _some(changes: Changes, most: int, generator: torch.Generator) -> Int64[Tensor, " chosen"]:
    """Return pairs, at most so many an input, drawn at random."""
    shuffled = torch.randperm(len(changes.rows), generator=generator)
    by_row = shuffled[changes.rows[shuffled].argsort(stable=True)]
    counts = torch.bincount(changes.rows)
    begins = (counts.cumsum(0) - counts)[changes.rows[by_row]]
    return by_row[torch.arange(len(by_row)) - begins < most].sort().values
