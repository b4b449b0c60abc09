"""Train a parameter decomposition on the fitting part of trusted data, resumably."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.plan import DictionaryFigures
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.matrices import Matrices
from mad.components.parameters.training.plan import SpdPlan
from mad.components.parameters.training.training import SpdFigures, SpdTraining
from mad.components.parameters.training.unused import with_unused
from mad.errors import ConfigError
from mad.fit.apart import check_inputs, drawn, kept_in, measured, run_steps, unwatched
from mad.fit.checkpoint import Unfinished
from mad.types import Dataset, Progress

MISSED_AT_BEST: Final = 0.01
"""Share of a matrix's squares that the best possible subcomponents of their number may miss."""

SpdWatch: TypeAlias = Callable[[int, SpdFigures], None]
"""Told of each step: its number from 1, and its figures."""


@final
@dataclass(frozen=True)
class TrainedParameters:
    """A decomposition, how good it is at each layer, and digests of the inputs it has seen."""

    decomposition: ParameterDecomposition
    figures: tuple[DictionaryFigures, ...]
    seen: Int64[Tensor, " seen"]


def train_parameters(  # noqa: PLR0913  # what is read, how it is trained and read out, who watches
    model: MonitoredModel,
    read_out: Callable[[Sequence[Subcomponents]], ParameterDecomposition],
    data: Dataset,
    plan: SpdPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
    room_bytes: int,
    unfinished: Unfinished | None = None,
    watch: SpdWatch = unwatched,
) -> TrainedParameters:
    """Take the layers of a plan apart, on inputs of some rows, with what none of them has used.

    The same plan and rows give the same decomposition, also where ``unfinished`` has a checkpoint
    of a training that was killed, with which this one goes on; None keeps none. Whoever has stored
    the decomposition removes it. ``read_out`` says how finished pieces are read out.

    Raises:
        ConfigError: as ``check_plan``, the model fails on the data, or the training diverges.
    """
    check_plan(model, plan)
    inputs = drawn(
        model,
        [layer.name for layer in plan.layers],
        data,
        rows=rows,
        seed=plan.seed,
        room_bytes=room_bytes,
        progress=progress,
    )
    training = SpdTraining.begin(model.module, plan, inputs.draw(0, plan.batch_size))
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
    stage = "finding what is never used"
    parts = with_unused(
        training.passes,
        training.finish(),
        training.matrices.matrix,
        early=inputs.in_turn(rows[::2].contiguous(), stage, progress),
        late=inputs.in_turn(rows[1::2].contiguous(), stage, progress),
    )
    decomposition = read_out(parts)
    return TrainedParameters(decomposition, measured(model, decomposition, data, rows), inputs.seen)


def check_plan(model: MonitoredModel, plan: SpdPlan) -> None:
    """Refuse, before any training, what cannot be trained.

    Raises:
        ConfigError: the plan does not fit the model, which has other layers, ties or more than one
            input; or even the best rank-one pieces of a layer's number, those of its singular
            values, would miss more than ``MISSED_AT_BEST`` of its squares.
    """
    check_inputs(model)
    Matrices.of(model.module, plan)
    for layer in plan.layers:
        matrix = matrix_of(model.module, matrix_layer(model.module, layer.name))
        squares = torch.linalg.svdvals(matrix.double()).square()
        left = 1 - squares.cumsum(dim=0) / squares.sum().clamp_min(1e-300)
        needed = int((left > MISSED_AT_BEST).sum()) + 1
        if layer.width < needed:
            raise ConfigError(
                f"{layer.width} subcomponents of layer {layer.name!r} miss at least "
                f"{float(left[layer.width - 1]):.0%} of its matrix, whatever they are: set "
                f"decomposition.parameters.components to {needed} or more there"
            )


def _told(figures: SpdFigures) -> str:
    return f"loss {figures.loss:.3g}, {figures.active:.1f} active"
