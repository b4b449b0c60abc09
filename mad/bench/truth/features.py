"""Toys of features as truths: a mechanism is what the network does for one feature of its input.

It is silenced by taking away what the feature adds to the first matrix, and nothing else.
"""

from functools import partial
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mad.bench.tasks import INPUT
from mad.bench.truth import resid_mlp, tms
from mad.bench.truth.base import Truth
from mad.bench.truth.resid_mlp import ResidMlp, ResidMlpTask
from mad.bench.truth.tms import Tms, TmsTask
from mad.capture.model import MonitoredModel
from mad.types import Inputs

CHANGED: Final = 0.1
"""How far an answer, which is between zero and two, must move to be another."""

TMS_RATE: Final = 0.15
RESID_MLP_RATE: Final = 0.3
"""How often a feature is there: often enough that two meet in one of a hundred inputs."""


def tms_truth(*, seed: int) -> Truth:
    """Return a toy model of superposition of five features in two directions.

    Of twice as many features as directions, two would lie on one line, and be one rank-one piece. A
    feature is on where it is not zero. The mechanisms are columns of the first matrix; the
    second, which is the same transposed, mixes features that are on together.

    Raises:
        ConfigError: no seed gave a model of all features.
    """
    model, _ = TmsTask(features=5, narrow=2, batch=512, steps=2_000).representing(seed)
    return Truth(
        name=f"tms {seed}",
        model=MonitoredModel.of(model.eval(), name=f"tms {seed}", inputs=[INPUT]),
        layers=("linear1",),
        sites=("linear1", "linear2"),
        mechanisms=tuple(f"feature {one}" for one in range(model.linear1.in_features)),
        draw=partial(_draw_tms, model.linear1.in_features),
        on=_is_positive,
        active=partial(_tms_active, model),
    )


def resid_mlp_truth(*, seed: int) -> Truth:
    """Return a residual network of one layer, with fewer neurons than features.

    A feature is on where it is above zero: below, there is nothing to add to it.
    """
    task = ResidMlpTask(
        features=16, neurons=12, layers=1, stream=48, batch=512, rate=RESID_MLP_RATE
    )
    model, _ = task.trained(seed)
    return Truth(
        name=f"resid_mlp {seed}",
        model=MonitoredModel.of(model.eval(), name=f"resid_mlp {seed}", inputs=[INPUT]),
        layers=("layers.0.mlp_in", "layers.0.mlp_out"),
        sites=("layers.0.mlp_in", "layers.0"),
        mechanisms=tuple(f"feature {one}" for one in range(task.features)),
        draw=partial(_draw_resid_mlp, task.features),
        on=_is_positive,
        active=partial(_resid_mlp_active, model),
    )


def _draw_tms(features: int, count: int, generator: torch.Generator) -> Inputs:
    return {INPUT: tms.sparse(count, features, generator, rate=TMS_RATE)}


def _draw_resid_mlp(features: int, count: int, generator: torch.Generator) -> Inputs:
    return {INPUT: resid_mlp.sparse(count, features, generator, rate=RESID_MLP_RATE)}


def _is_positive(inputs: Inputs) -> Bool[Tensor, "batch feature"]:
    return inputs[INPUT] > 0


@torch.no_grad()
def _tms_active(model: Tms, inputs: Inputs) -> Bool[Tensor, "batch feature"]:
    given = inputs[INPUT]
    narrow = model.linear1(given)
    whole = torch.relu(model.linear2(narrow))
    without = [
        torch.relu(model.linear2(narrow - given[:, [one]] * model.linear1.weight[:, one]))
        for one in range(given.shape[1])
    ]
    return _changed(whole, without) & _is_positive(inputs)


@torch.no_grad()
def _resid_mlp_active(model: ResidMlp, inputs: Inputs) -> Bool[Tensor, "batch feature"]:
    given = inputs[INPUT]
    (layer,) = model.layers
    stream = given @ model.embedding

    def answers(seen: Float[Tensor, "batch stream"]) -> Float[Tensor, "batch feature"]:
        found: Tensor = (stream + layer(seen)) @ model.embedding.T
        return found

    without = [
        answers(stream - given[:, [one]] * model.embedding[one]) for one in range(given.shape[1])
    ]
    return _changed(answers(stream), without) & _is_positive(inputs)


def _changed(whole: Tensor, without: list[Tensor]) -> Bool[Tensor, "batch feature"]:
    moved = [(one - whole).abs().amax(dim=1) for one in without]
    return torch.stack(moved, dim=1) > CHANGED
