"""Train components by attribution on trusted data, resumably, and take from it how they are read.

Training sees the fitting part of the data; so do thresholds, which are fixed from then on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.components.parameters.apd.attributions import attributions
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.apd.files import ReadOut
from mad.components.parameters.apd.passes import Visited
from mad.components.parameters.apd.plan import ApdPlan
from mad.components.parameters.apd.rules import Asked
from mad.components.parameters.apd.starts import ApdStarts
from mad.components.parameters.apd.training import ApdFigures, matrices_of
from mad.components.parameters.layers import MatrixLayer
from mad.errors import ConfigError
from mad.fit.apart import READ, check_inputs, drawn, evenly, kept_in, run_steps, unwatched
from mad.fit.checkpoint import Unfinished
from mad.fit.reading import batches, row_digests, try_out
from mad.types import Dataset, Progress

_LOOKED_AT: Final = 16_384
"""Inputs whose attributions thresholds are taken from, at most."""

ApdWatch: TypeAlias = Callable[[int, ApdFigures], None]
"""Told of each step: its number from 1, and its figures."""


@final
@dataclass(frozen=True)
class TrainedComponents:
    """Components, and digests of the inputs they have seen."""

    components: Components
    seen: Int64[Tensor, " seen"]


def train_components(  # noqa: PLR0913  # what is read, how it is trained, who watches
    model: MonitoredModel,
    data: Dataset,
    plan: ApdPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
    room_bytes: int,
    unfinished: Unfinished | None = None,
    watch: ApdWatch = unwatched,
) -> TrainedComponents:
    """Take a model apart into components, on inputs of some rows.

    The same plan and rows give the same components, also where ``unfinished`` has a checkpoint of a
    training that was killed, with which this one goes on; None keeps none. Whoever has stored them
    removes it.

    Raises:
        ConfigError: as ``check_components``, or the training diverges.
    """
    check_components(model, plan, data)
    inputs = drawn(
        model,
        plan.layers,
        data,
        rows=rows,
        seed=plan.seed,
        room_bytes=room_bytes,
        progress=progress,
    )
    training = ApdStarts.begin(model.module, plan)
    run_steps(
        training,
        inputs,
        kept_in(unfinished, model, data, plan, rows),
        steps=plan.steps,
        batch_size=plan.batch_size,
        progress=progress,
        watch=watch,
        tell=_told,
    )
    return TrainedComponents(training.finish(), inputs.seen)


def check_components(model: MonitoredModel, plan: ApdPlan, data: Dataset) -> None:
    """Refuse, before any training, what cannot be trained.

    Raises:
        ConfigError: the plan does not fit the model, which has other layers, ties or more than one
            input; its weights are not in single precision; components could not add up to a layer's
            matrix; or the model fails on the first of the data, or has no attributions there.
    """
    check_inputs(model)
    found = matrices_of(model.module, plan)
    layers = found.layers
    for name, matrix in found.matrix.items():
        if matrix.dtype != torch.float32:
            raise ConfigError(
                f"layer {name!r} has weights of {matrix.dtype}, and components are of "
                "torch.float32: let the factory return its model through .float()"
            )
    first = try_out(model, plan.layers, data)[model.inputs[0]]
    visited = Visited(model.module, layers)
    # As many as will be, of the least rank: of their own they may fill the memory.
    probe = {one.name: _nothing(one, plan.components) for one in layers}
    attributions(visited, visited.look(first), first, probe)


def read_out(
    model: MonitoredModel,
    components: Components,
    asked: Asked,
    data: Dataset,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> tuple[ReadOut, Int64[Tensor, " seen"]]:
    """Take a rule from some of the rows, and return it with digests of these.

    The same components and rows give the same rule.
    """
    (name,) = model.inputs
    visited = Visited(model.module, [one.layer for one in components.values()])
    found, digests = [], []
    few = evenly(rows, _LOOKED_AT)
    for _, inputs in batches(data, few, READ, "taking thresholds", progress):
        own = inputs[name]
        digests.append(row_digests(inputs))
        found.append(attributions(visited, visited.look(own), own, components))
    return ReadOut(asked.fit(torch.cat(found)), asked), torch.cat(digests)


def _nothing(layer: MatrixLayer, components: int) -> Factors:
    return Factors(
        layer,
        torch.zeros(1).expand(components, layer.source, 1),
        torch.zeros(1).expand(components, 1, layer.target),
    )


def _told(figures: ApdFigures) -> str:
    return f"loss {figures.loss:.3g}, faithfulness {figures.faithfulness:.2g}"
