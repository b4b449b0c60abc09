"""Where training starts: random pieces, and a warm-up in which they learn to add up to matrices."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Final

import torch
from torch import Tensor

from mad.components.parameters.importance import (
    ImportanceFunction,
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)
from mad.components.parameters.layers import MatrixLayer
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.matrices import Matrices
from mad.components.parameters.training.plan import ImportanceKind, SpdPlan

IMPORTANCE: Final[Mapping[ImportanceKind, type[ImportanceFunction]]] = {
    "scalar": ScalarImportance,
    "vector": VectorImportance,
    "shared": SharedImportance,
}


def initial(matrices: Matrices, plan: SpdPlan, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw what is trained, by name: ``v`` and ``u`` of layers that are tied to none, importance.

    Deviations are one over the root of what each number adds up, as in the reference code.
    """
    drawn: dict[str, Tensor] = {}
    widths = {one.name: one.width for one in plan.layers}
    for layer in matrices.layers:
        width = widths[layer.name]
        if layer.name not in matrices.ties:
            v = torch.randn(layer.source, width, generator=generator) / math.sqrt(layer.source)
            u = torch.randn(width, layer.target, generator=generator) / math.sqrt(width)
            drawn |= {f"{layer.name}.v": v, f"{layer.name}.u": u}
        network = _network(plan, layer, width, generator)
        drawn |= {f"{layer.name}.{name}": one for name, one in network.items()}
    return {name: one.requires_grad_() for name, one in drawn.items()}


def pieces(
    matrices: Matrices, plan: SpdPlan, parameters: Mapping[str, Tensor]
) -> dict[str, Subcomponents]:
    """Return what parameters make of each layer, tied ones from those of their owner."""
    kind = IMPORTANCE[plan.importance]
    made = {}
    for layer in matrices.layers:
        name = layer.name
        network = kind(**{one.name: parameters[f"{name}.{one.name}"] for one in fields(kind)})  # type: ignore[arg-type]  # each is a dataclass
        v, u = _pair(matrices, name, parameters)
        made[name] = Subcomponents(layer, v, u, network)
    return made


def warm_up(matrices: Matrices, plan: SpdPlan, parameters: Mapping[str, Tensor]) -> None:
    """Teach pieces of layers to add up to their matrices, before anything else is asked."""
    trained = [one for name, one in parameters.items() if is_of_matrix(name)]
    optimiser = torch.optim.AdamW(
        trained, lr=plan.warm_up_rate, weight_decay=plan.warm_up_decay, fused=True
    )
    for _ in range(plan.warm_up_steps):
        loss = unfaithfulness(matrices, parameters)
        for one, slope in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            one.grad = slope
        optimiser.step()


def unfaithfulness(matrices: Matrices, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return the mean square of what all pieces miss of all weights."""
    missed = torch.zeros(())
    for name, matrix in matrices.matrix.items():
        v, u = _pair(matrices, name, parameters)
        missed = missed + (matrix - v @ u).square().sum()
    return missed / sum(one.numel() for one in matrices.matrix.values())


def is_of_matrix(name: str) -> bool:
    """Whether a parameter of this name is a matrix's, not a network's."""
    return name.endswith((".v", ".u"))


def _pair(matrices: Matrices, name: str, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    tie = matrices.ties.get(name)
    if tie is None:
        return parameters[f"{name}.v"], parameters[f"{name}.u"]
    v, u = parameters[f"{tie.owner}.v"], parameters[f"{tie.owner}.u"]
    return (v, u) if tie.turn == "as it is" else (u.T, v.T)


def _network(
    plan: SpdPlan, layer: MatrixLayer, width: int, generator: torch.Generator
) -> dict[str, Tensor]:
    hidden, source = plan.hidden, layer.source

    def drawn(*shape: int, fan: float) -> Tensor:
        return torch.randn(*shape, generator=generator) / math.sqrt(fan)

    b_out = torch.zeros(width)
    if plan.importance == "shared":
        return {
            "w_in": drawn(source, hidden, fan=source / 2),
            "b_in": torch.zeros(hidden),
            "w_out": drawn(hidden, width, fan=float(hidden)),
            "b_out": b_out,
        }
    is_scalar = plan.importance == "scalar"
    return {
        "w_in": drawn(width, hidden, fan=0.5)
        if is_scalar
        else drawn(width, source, hidden, fan=source / 2),
        "b_in": torch.zeros(width, hidden),
        "w_out": drawn(width, hidden, fan=float(hidden)),
        "b_out": b_out,
    }
