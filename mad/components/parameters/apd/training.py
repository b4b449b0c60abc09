"""One attribution-based decomposition in training: batches in, components out, a state to keep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mad.components.moments import moments, restore_moments
from mad.components.parameters.apd.attributions import (
    attributions,
    most_of_batch,
    most_of_each,
)
from mad.components.parameters.apd.components import Components, Factors
from mad.components.parameters.apd.losses import Terms, hidden_error, simplicity, unfaithfulness
from mad.components.parameters.apd.passes import Visited
from mad.components.parameters.apd.plan import ApdPlan
from mad.components.parameters.training.matrices import Matrices
from mad.components.parameters.training.plan import LayerPlan, SpdPlan
from mad.errors import ConfigError


@final
@dataclass(frozen=True)
class ApdFigures:
    """What one step found: the loss, and its terms before their coefficients."""

    loss: float
    faithfulness: float
    minimality: float
    simplicity: float
    hidden: float


@final
@dataclass
class ApdTraining:
    """Components with their optimiser. State is what checkpoints keep; nothing else is drawn."""

    plan: ApdPlan
    matrices: Matrices
    visited: Visited
    parameters: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    steps_done: int = field(default=0)

    @staticmethod
    def begin(model: nn.Module, plan: ApdPlan) -> "ApdTraining":
        """Draw the first components.

        Raises:
            ConfigError: the plan does not fit the model.
        """
        matrices = matrices_of(model, plan)
        parameters = _initial(matrices, plan)
        return ApdTraining(
            plan,
            matrices,
            Visited(model, matrices.layers),
            parameters,
            torch.optim.AdamW(parameters.values(), lr=plan.rate, weight_decay=0.0, fused=True),
        )

    def step(self, batch: Shaped[Tensor, "batch ..."]) -> ApdFigures:
        """Learn from one batch of the model's input.

        Raises:
            ConfigError: the loss is not finite.
        """
        if self.plan.unit_norm:
            self._normalise()
        terms = self._terms(batch)
        loss = terms.total(self.plan)
        figures = ApdFigures(*(float(one.detach()) for one in (loss, *terms)))
        if not math.isfinite(figures.loss):
            raise ConfigError(
                f"the training diverged at step {self.steps_done + 1}: its loss is "
                f"{figures.loss:g}; set a rate below {self.plan.rate:g}, or look for inputs that "
                "are not finite"
            )
        self._descend(loss)
        self.steps_done += 1
        return figures

    def components(self) -> Components:
        """Return every layer's components as they are, with gradients."""
        return {layer.name: self._factors(layer.name) for layer in self.matrices.layers}

    def finish(self) -> Components:
        """Return every layer's components."""
        return {
            name: Factors(
                one.layer,
                # As they come back from disk: products round otherwise where strides differ.
                one.a.detach().clone(memory_format=torch.contiguous_format),
                one.b.detach().clone(memory_format=torch.contiguous_format),
            )
            for name, one in self.components().items()
        }

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Everything that a step changes; ``restore`` takes it back."""
        own = {f"parameter.{name}": one.detach() for name, one in self.parameters.items()}
        return {**own, **moments(self.optimiser), "steps_done": torch.tensor(self.steps_done)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same training; KeyError or RuntimeError if it is of another."""
        with torch.no_grad():
            for name, one in self.parameters.items():
                one.copy_(state[f"parameter.{name}"])
        restore_moments(self.optimiser, state)
        self.steps_done = int(state["steps_done"])

    def _terms(self, batch: Tensor) -> Terms:
        components, plan = self.components(), self.plan
        fixed = {name: one.detached for name, one in components.items()}
        seen = self.visited.look(batch)
        run = seen
        if plan.attributed == "components":
            run = self.visited.look_at_all(batch, fixed)
        found = attributions(self.visited, run, batch, fixed)
        used = (
            most_of_batch(found, active=plan.active)
            if plan.selection == "batch"
            else most_of_each(found, active=int(plan.active))
        )
        output, returned = self.visited.with_components(batch, components, used)
        return Terms(
            unfaithfulness(components, self.matrices.matrix),
            (output - seen.output).square().mean(),
            simplicity(components, used, p=plan.p),
            torch.zeros(())
            if plan.hidden is None
            else hidden_error(plan.hidden, seen.returned, returned),
        )

    def _descend(self, loss: Float[Tensor, ""]) -> None:
        slopes = torch.autograd.grad(loss, list(self.parameters.values()))
        for (name, one), slope in zip(self.parameters.items(), slopes, strict=True):
            one.grad = slope
            if self.plan.unit_norm and name.endswith(".a"):
                # What is along a column would only change its length.
                one.grad = slope - (slope * one.detach()).sum(dim=1, keepdim=True) * one.detach()
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate_at(self.steps_done)
        self.optimiser.step()

    def _normalise(self) -> None:
        with torch.no_grad():
            for name, one in self.parameters.items():
                if name.endswith(".a"):
                    one.div_(one.norm(dim=1, keepdim=True).clamp_min(1e-12))

    def _factors(self, name: str) -> Factors:
        (layer,) = (one for one in self.matrices.layers if one.name == name)
        tie = self.matrices.ties.get(name)
        owner = name if tie is None else tie.owner
        a, b = self.parameters[f"{owner}.a"], self.parameters[f"{owner}.b"]
        turned = tie is not None and tie.turn == "transposed"
        return Factors(layer, b.mT, a.mT) if turned else Factors(layer, a, b)


def matrices_of(model: nn.Module, plan: ApdPlan) -> Matrices:
    """Look up what a plan names.

    Raises:
        ConfigError: a layer is not there or cannot be decomposed, layers share a parameter and the
            plan does not say so, or components could not add up to a layer's matrix.
    """
    layers = tuple(LayerPlan(name, plan.components) for name in plan.layers)
    matrices = Matrices.of(model, SpdPlan(layers=layers, ties=plan.ties))
    _check_rank(matrices, plan)
    return matrices


def _check_rank(matrices: Matrices, plan: ApdPlan) -> None:
    for layer in matrices.layers:
        rank = plan.rank or min(layer.source, layer.target)
        needed = int(torch.linalg.matrix_rank(matrices.matrix[layer.name]))
        if rank * plan.components < needed:
            raise ConfigError(
                f"layer {layer.name!r} has a matrix of rank {needed}, which {plan.components} "
                f"components of rank {rank} cannot add up to; train more of them, or of a higher "
                "rank"
            )


def _initial(matrices: Matrices, plan: ApdPlan) -> dict[str, Tensor]:
    """Draw the factors of layers that are tied to none, as the paper's code does for one model.

    That is Xavier's rule for all components as one tensor: small, so that they grow apart. With
    factors half as large again two of a toy model's five features shared one for 4,000 steps.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    drawn: dict[str, Tensor] = {}
    for layer in matrices.layers:
        if layer.name in matrices.ties:
            continue
        rank = plan.rank or min(layer.source, layer.target)
        for name, shape in (("a", (layer.source, rank)), ("b", (rank, layer.target))):
            deviation = math.sqrt(2 / ((plan.components + 1) * shape[0] * shape[1]))
            one = torch.randn(plan.components, *shape, generator=generator) * deviation
            drawn[f"{layer.name}.{name}"] = one.requires_grad_()
    return drawn
