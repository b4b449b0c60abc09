"""Target models of published figures, and how each is decomposed.

Numbers are those of the reference configurations (goodfire-ai/spd of February 2026), for the
networks of two and three layers those of the paper.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor, nn

from mad.bench.truth.resid_mlp import FoldedPasses, ResidMlp, ResidMlpTask, sparse as signed
from mad.bench.truth.tms import TmsTask, sparse
from mad.components.parameters.training.passes import Passes
from mad.components.parameters.training.plan import LayerPlan, SpdPlan


@final
@dataclass(frozen=True)
class Setting:
    """A target model, what it is trained on, and how it is decomposed.

    ``read`` are the layers that read features, whose matrices side by side MMCS is of, with
    features in the directions of ``embedding``; ``passes`` is a faster way to run the model, if
    there is one; ``untrained`` is a model of the same sizes.
    """

    target: Callable[[int], tuple[nn.Module, int]]
    untrained: Callable[[], nn.Module]
    draw: Callable[[int, torch.Generator], Tensor]
    plan: SpdPlan
    features: int
    read: tuple[str, ...]
    embedding: Callable[[nn.Module], Tensor]
    passes: Callable[[nn.Module], Passes] | None = None


def tms(task: TmsTask, width: int, **changes: object) -> Setting:
    """Return how a toy model of superposition is decomposed, as in the reference configurations."""
    names = ("linear1", *(("hidden",) if task.identity else ()), "linear2")
    plan = SpdPlan(
        layers=tuple(LayerPlan(name, width) for name in names),
        ties=(("linear1", "linear2"),),
        **changes,  # type: ignore[arg-type]  # its fields
    )
    return Setting(
        target=task.representing,
        untrained=lambda: replace(task, steps=0).trained(0),
        draw=lambda rows, generator: sparse(rows, task.features, generator),
        plan=plan,
        features=task.features,
        read=("linear1",),
        embedding=lambda _: torch.eye(task.features),
    )


_NARROW: Final = {"importance_coefficient": 3e-3, "p": 1.0}
_WIDE: Final = {"importance_coefficient": 1e-4, "p": 2.0}


def resid_mlp(task: ResidMlpTask, width: int, **changes: object) -> Setting:
    """Return how a residual network is decomposed, as in the reference configurations."""
    names = [f"layers.{layer}.mlp_{way}" for layer in range(task.layers) for way in ("in", "out")]
    plan = SpdPlan(
        layers=tuple(LayerPlan(name, width) for name in names),
        batch_size=2_048,
        p=2.0,
        schedule="constant",
        **changes,  # type: ignore[arg-type]  # its fields
    )
    return Setting(
        target=task.trained,
        untrained=lambda: replace(task, steps=0).trained(0)[0],
        draw=lambda rows, generator: signed(rows, task.features, generator),
        plan=plan,
        features=task.features,
        read=tuple(names[::2]),
        passes=_folded,
        embedding=_embedding,
    )


def _folded(model: nn.Module) -> Passes:
    assert isinstance(model, ResidMlp)
    return FoldedPasses(model)


def _embedding(model: nn.Module) -> Tensor:
    assert isinstance(model, ResidMlp)
    return model.embedding


SETTINGS: Final = {
    "tms_5_2": tms(TmsTask(5, 2, 1_024), 20, **_NARROW),
    "tms_5_2_id": tms(TmsTask(5, 2, 1_024, identity=True), 20, **_NARROW),
    "tms_40_10": tms(TmsTask(40, 10, 8_192), 200, **_WIDE),
    "tms_40_10_id": tms(TmsTask(40, 10, 8_192, identity=True), 200, steps=20_000, **_WIDE),
    "resid_mlp_1": resid_mlp(
        ResidMlpTask(100, 50, 1), 100, importance_coefficient=1e-5, rate=2e-3, steps=20_000
    ),
    "resid_mlp_2": resid_mlp(
        ResidMlpTask(100, 25, 2), 400, importance_coefficient=1e-5, rate=1e-3, steps=50_000
    ),
    "resid_mlp_3": resid_mlp(
        ResidMlpTask(102, 17, 3, steps=10_000),
        500,
        hidden=128,
        importance_coefficient=0.5e-5,
        rate=1e-3,
        steps=50_000,
    ),
}
