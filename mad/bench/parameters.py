"""mad on one task with a parameter decomposition: trained by one rule, the same for every task.

The rule takes everything from the model and its trusted inputs: which layers, how many pieces of
each, and what importance costs. Of two settings it takes the one that describes what layers write
the shortest.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mad.arrays import Table
from mad.bench.described import described
from mad.bench.figures import Measured
from mad.bench.own import TERMS, Clock, Plans, Scored, score_all
from mad.bench.tasks import Task
from mad.capture.model import MonitoredModel
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.layers import MatrixLayer, matrix_layer
from mad.components.parameters.training.plan import LayerPlan, SpdPlan
from mad.components.parameters.training.training import SpdTraining
from mad.components.parameters.training.unused import with_unused
from mad.errors import ConfigError
from mad.fit import Split
from mad.types import Dataset, Ledger, Progress, view_of

COST: Final = 5e-3
"""What one needed piece costs, as a share of the answers' variance: the published settings of toys
lie between 3e-3 and 6e-3 of theirs."""

FINER: Final = 4
"""How many times as many pieces are tried too, and how many times as dear each: published settings
have up to five pieces a feature, which layers of many features in few directions need."""

WIDEST: Final = 256
"""Pieces of one layer, at most."""

LARGEST: Final = 200_000
"""Weights of all layers, at most: a decomposition takes hundreds of times as long as a forward
pass a step, and thousands of steps."""

STAGE: Final = "training a decomposition"

_READ: Final = 256


def measure_parameters(
    task: Task,
    rows: Split,
    plans: Plans,
    default: Scored,
    *,
    progress: Progress,
    clock: Clock,
) -> dict[str, Measured]:
    """Train decompositions on the fitting part, fit a baseline to the better one, and measure.

    ``mad:parameters`` is its surprise, ``mad:parameters:mechanism`` its mechanism, and
    ``mad:both`` the surprise of a ledger that has the default's parts too.

    Raises:
        ConfigError: the model has no layer that can be decomposed, or is too large.
    """
    start = clock()
    data = Table(task.trusted)
    plan = usual_plan(task.model, data, rows, steps=plans.decomposition_steps, seed=plans.fit.seed)
    decomposition = _shorter(task.model, data, rows, plan, progress=progress)
    seconds = clock() - start
    scored = score_all(task, decomposition, rows, plans.fit, progress=progress, clock=clock)
    scored = replace(scored, fit_seconds=seconds + scored.fit_seconds)
    own, both = scored.measured(TERMS), _both(default, scored).measured(TERMS)
    return {
        "mad:parameters": own["surprise"],
        "mad:parameters:mechanism": own["mechanism"],
        "mad:both": both["surprise"],
    }


def _shorter(
    model: MonitoredModel, data: Dataset, rows: Split, plan: SpdPlan, *, progress: Progress
) -> ParameterDecomposition:
    """Train by the rule, and finer: finer stays where it describes shorter, also than nothing."""
    usual, other = (
        decompose(model, data, rows.fitting, one, progress=progress) for one in (plan, finer(plan))
    )
    (by_usual, by_other), by_none = described(model, (usual, other), data, rows)
    return other if by_other < min(by_usual, by_none) else usual


def finer(plan: SpdPlan) -> SpdPlan:
    """Return a plan of more pieces a layer, each as much dearer."""
    layers = tuple(
        replace(one, width=max(one.width, min(FINER * one.width, WIDEST))) for one in plan.layers
    )
    cost = FINER * plan.importance_coefficient
    return replace(plan, layers=layers, importance_coefficient=cost)


def usual_plan(
    model: MonitoredModel, data: Dataset, rows: Split, *, steps: int, seed: int
) -> SpdPlan:
    """Return how to decompose any model: every layer that is a matrix, by the scale of answers.

    A layer has as many pieces as its longer side, and at most four times its shorter. Answers are
    compared by squares of differences, and a piece costs a share of their variance.

    Raises:
        ConfigError: no layer can be decomposed, or their weights are too many.
    """
    layers = _matrices(model.module)
    weights = sum(one.source * one.target for one in layers)
    if not layers or weights > LARGEST:
        raise ConfigError(
            f"{model.name} has {weights:,} weights in layers that can be decomposed, and a "
            f"decomposition here takes models of 1 to {LARGEST:,}: leave it out for this task"
        )
    sample = data.take(rows.fitting[:2_048])
    with torch.no_grad():
        answers = model.module(*(sample[name] for name in model.inputs))
    return SpdPlan(
        layers=tuple(LayerPlan(one.name, _width(one)) for one in layers),
        hidden=8,
        importance_coefficient=COST * float(answers.float().var(dim=0).mean()),
        rate=3e-3,
        steps=steps,
        batch_size=256,
        seed=seed,
    )


def decompose(
    model: MonitoredModel,
    data: Dataset,
    rows: Shaped[Tensor, " row"],
    plan: SpdPlan,
    *,
    progress: Progress,
) -> ParameterDecomposition:
    """Train a decomposition of a model of one input on some rows, with what none has used."""
    (name,) = model.inputs
    known = data.take(rows)[name]
    generator = torch.Generator().manual_seed(plan.seed)

    def batch() -> Shaped[Tensor, "batch ..."]:
        return known[torch.randint(len(known), (plan.batch_size,), generator=generator)]

    training = SpdTraining.begin(model.module, plan, batch())
    for step in range(plan.steps):
        found = training.step(batch())
        note = f"loss {found.loss:.2g}, {found.active:.1f} active"
        progress(STAGE, done=step + 1, total=plan.steps, note=note)
    parts = with_unused(
        training.passes,
        training.finish(),
        training.matrices.matrix,
        early=known[::2].split(_READ),
        late=known[1::2].split(_READ),
    )
    return ParameterDecomposition.of(model.module, parts)


def _matrices(module: nn.Module) -> Sequence[MatrixLayer]:
    found = []
    for name, _ in module.named_modules():
        try:
            found.append(matrix_layer(module, name))
        except ConfigError:
            continue
    return found


def _width(layer: MatrixLayer) -> int:
    short, long = sorted((layer.source, layer.target))
    return min(long, 4 * short, WIDEST)


def _both(default: Scored, parameters: Scored) -> Scored:
    ledgers = {
        name: _beside(own, parameters.ledgers[name]) for name, own in default.ledgers.items()
    }
    return Scored(
        ledgers,
        default.fit_seconds + parameters.fit_seconds,
        default.ms_per_1000 + parameters.ms_per_1000,
    )


def _beside(dictionaries: Ledger, parameters: Ledger) -> Ledger:
    """Return both ledgers as one, in which a layer is another view of its site."""
    keys = tuple((view_of(view, "parameters"), term) for view, term in parameters.keys)
    return Ledger(
        (*dictionaries.keys, *keys),
        torch.cat([dictionaries.bits, parameters.bits], dim=1),
        torch.cat([dictionaries.marginal, parameters.marginal], dim=1),
    )
