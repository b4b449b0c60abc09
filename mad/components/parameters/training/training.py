"""One decomposition in training: batches in, pieces out, and between them a state to keep."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mad.components.moments import moments, restore_moments
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training import layout
from mad.components.parameters.training.adversary import Adversary
from mad.components.parameters.training.compiled import Work, can_compile, traced
from mad.components.parameters.training.initial import (
    initial,
    is_of_matrix,
    pieces,
    unfaithfulness,
    warm_up,
)
from mad.components.parameters.training.losses import Attempt, Now, Terms, terms
from mad.components.parameters.training.matrices import Matrices
from mad.components.parameters.training.noise import Demand
from mad.components.parameters.training.passes import Passes
from mad.components.parameters.training.plan import SpdPlan
from mad.components.parameters.training.twin import Twin
from mad.components.parameters.training.zeros import Zeros
from mad.errors import ConfigError

WORTH_COMPILING = 2_000
"""Steps that outweigh the half minute that a compiler takes."""


@final
@dataclass(frozen=True)
class SpdFigures:
    """What one step found: the loss, its terms before their coefficients, and ``active``.

    ``active`` is how many subcomponents of all layers an input needs by more than 0.1 at each
    position, on average. Terms that the plan does not ask for are zero.
    """

    loss: float
    active: float
    stochastic: float
    layerwise: float
    subset: float
    adversarial: float
    importance: float
    frequency: float
    faithfulness: float


@final
@dataclass
class SpdTraining:
    """Pieces with their optimiser and the adversary. State is what checkpoints keep."""

    plan: SpdPlan
    matrices: Matrices
    passes: Passes
    parameters: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    adversary: Adversary | None
    zeros: Zeros | None
    compiled: bool
    steps_done: int = field(default=0)
    _work: dict[torch.Size, tuple[Demand, Work]] = field(default_factory=dict)

    @staticmethod
    def begin(
        model: nn.Module,
        plan: SpdPlan,
        example: Shaped[Tensor, "batch ..."],
        *,
        passes: Passes | None = None,
        compiled: bool | None = None,
    ) -> "SpdTraining":
        """Take the first pieces from a plan, and teach them to add up to the model's matrices.

        ``example`` is a batch as training will see them. ``passes`` is another way to run the same
        model, for models that have a faster one. Steps are ``compiled`` where there is a compiler
        and the run is long enough to make up for it, unless told otherwise.

        Raises:
            ConfigError: the plan does not fit the model.
        """
        matrices = Matrices.of(model, plan)
        passes = Twin(model, matrices.layers) if passes is None else passes
        generator = torch.Generator().manual_seed(plan.seed)
        parameters = initial(matrices, plan, generator)
        warm_up(matrices, plan, parameters)
        places = _places(passes, matrices, plan, parameters, example)
        is_each = plan.adversarial_coefficient > 0 and plan.adversary_scope == "each"
        return SpdTraining(
            plan=plan,
            matrices=matrices,
            passes=passes,
            parameters=parameters,
            optimiser=_optimiser(matrices, plan, parameters),
            adversary=Adversary.begin(plan, places, generator)
            if plan.adversarial_coefficient
            else None,
            zeros=None if is_each else Zeros.fitting(passes, example, plan.batch_size),
            compiled=plan.steps >= WORTH_COMPILING and can_compile()
            if compiled is None
            else compiled,
        )

    def step(self, batch: Shaped[Tensor, "batch ..."]) -> SpdFigures:
        """Learn from one batch of the model's input.

        Raises:
            ConfigError: the loss is not finite.
        """
        batch, weight = (
            (batch, torch.ones(len(batch))) if self.zeros is None else self.zeros.collapsed(batch)
        )
        # A generator of its own for each step, so that training resumes to the same draws.
        generator = torch.Generator().manual_seed(1_000_003 * self.plan.seed + self.steps_done)
        if self.adversary is not None:
            self.adversary.attack(self.attempt(batch, weight))
        demand, work = self._work_on(batch)
        step = self.steps_done
        softness = torch.tensor([self.plan.p_at(step), self.plan.gamma_at(step)])
        given = [batch, weight, demand.drawn(generator), softness]
        numbers, slopes = work(self._leaves, given)
        figures = SpdFigures(*numbers.tolist())
        if not math.isfinite(figures.loss):
            raise ConfigError(
                f"the training diverged at step {step + 1}: its loss is {figures.loss:g}; set a "
                f"rate below {self.plan.rate:g}, or look for inputs that are not finite"
            )
        self._descend(slopes)
        self.steps_done += 1
        return figures

    def attempt(
        self, batch: Shaped[Tensor, "batch ..."], weight: Float[Tensor, " batch"]
    ) -> Attempt:
        """Run the model on a batch, and find how important the pieces are."""
        made = pieces(self.matrices, self.plan, self.parameters)
        return Attempt.at(self.passes, made, batch, weight, self.plan.distance)

    def finish(self) -> tuple[Subcomponents, ...]:
        """Return the pieces of each layer, in the plan's order."""
        kept = {name: one.detach().clone() for name, one in self.parameters.items()}
        return tuple(pieces(self.matrices, self.plan, kept).values())

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Everything that a step changes; ``restore`` takes it back."""
        adversary = {} if self.adversary is None else self.adversary.state
        return {
            **{f"parameter.{name}": one.detach() for name, one in self.parameters.items()},
            **{f"adversary.{name}": one for name, one in adversary.items()},
            **moments(self.optimiser),
            "height": torch.tensor(0 if self.zeros is None else self.zeros.height),
            "steps_done": torch.tensor(self.steps_done),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same training; KeyError or RuntimeError if it is of another."""
        with torch.no_grad():
            for name, one in self.parameters.items():
                one.copy_(state[f"parameter.{name}"])
        if self.adversary is not None:
            self.adversary.restore(_under("adversary.", state))
        restore_moments(self.optimiser, state)
        height = int(state["height"])
        self.zeros = Zeros(height) if height else None
        self.steps_done = int(state["steps_done"])

    @property
    def _leaves(self) -> list[Tensor]:
        """What is differentiated: pieces first, then the adversary's sources."""
        sources = [] if self.adversary is None else list(self.adversary.sources.values())
        is_scalar = self.plan.importance == "scalar"
        own = [
            layout.hidden_first(one.detach())
            if is_scalar and one.ndim == 2 and not is_of_matrix(name)  # noqa: PLR2004
            else one.detach()
            for name, one in self.parameters.items()
        ]
        return [*own, *(one.detach() for one in sources)]

    def _work_on(self, batch: Tensor) -> tuple[Demand, Work]:
        """Return what to do with batches of one shape, compiled if most have it."""
        if batch.shape not in self._work:
            places = _places(self.passes, self.matrices, self.plan, self.parameters, batch)
            demand = Demand.of(self.plan, places)
            usual = self.plan.batch_size if self.zeros is None else self.zeros.height
            is_compiled = self.compiled and len(batch) == usual
            work = self._loss_and_slopes(demand, to_compile=is_compiled)
            if is_compiled:
                example = [batch, torch.ones(len(batch)), torch.rand(demand.count()), torch.ones(2)]
                work = traced(work, self._leaves, example)
            self._work[batch.shape] = demand, work
        return self._work[batch.shape]

    def _loss_and_slopes(self, demand: Demand, *, to_compile: bool) -> Work:
        plan, names = self.plan, list(self.parameters)
        attacked = [] if self.adversary is None else list(self.adversary.sources)

        def work(leaves: Sequence[Tensor], given: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
            batch, weight, numbers, softness = given
            with torch.enable_grad():
                variables = [one.detach().requires_grad_() for one in leaves]
                parameters = dict(zip(names, variables, strict=False))
                made = pieces(self.matrices, plan, parameters)
                now = Now(
                    demand.dealt(numbers),
                    dict(zip(attacked, variables[len(names) :], strict=True)),
                    p=plan.p if plan.p_final is None else softness[0],
                    gamma=plan.gamma if plan.gamma_final is None else softness[1],
                )
                attempt = Attempt.at(
                    self.passes, made, batch, weight, plan.distance, to_compile=to_compile
                )
                unfaithful = (
                    unfaithfulness(self.matrices, parameters)
                    if plan.faithfulness_coefficient
                    else torch.zeros(())
                )
                found = terms(attempt, plan, now, unfaithful)
                loss = found.total(plan)
                slopes = torch.autograd.grad(loss, variables)
            each = [loss, attempt.active(), *(getattr(found, one.name) for one in fields(Terms))]
            return torch.stack([one.detach() for one in each]), list(slopes)

        return work

    def _descend(self, slopes: Sequence[Tensor]) -> None:
        for one, slope in zip(self.parameters.values(), slopes, strict=False):
            one.grad = slope
        if self.plan.clip is not None:
            matrices = [one for name, one in self.parameters.items() if is_of_matrix(name)]
            nn.utils.clip_grad_norm_(matrices, self.plan.clip)
        rate = self.plan.rate_at(self.steps_done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["steps_in_one"]
        self.optimiser.step()
        if self.adversary is not None:
            self.adversary.ascend(slopes[len(self.parameters) :])


def _optimiser(
    matrices: Matrices, plan: SpdPlan, parameters: Mapping[str, Tensor]
) -> torch.optim.AdamW:
    """Return Adam; what a number of layers share takes as many steps in one."""
    groups = []
    for name, one in parameters.items():
        owner = name.rpartition(".")[0]
        tied = sum(tie.owner == owner for tie in matrices.ties.values())
        count = 1 + tied if is_of_matrix(name) else 1
        groups.append({"params": [one], "steps_in_one": count})
    return torch.optim.AdamW(groups, lr=plan.rate, weight_decay=0.0, fused=True)


def _places(
    passes: Passes,
    matrices: Matrices,
    plan: SpdPlan,
    parameters: Mapping[str, Tensor],
    batch: Tensor,
) -> Mapping[str, tuple[int, ...]]:
    looked = passes.look(batch)
    with torch.no_grad():
        made = pieces(matrices, plan, parameters)
        inner = {name: passes.inner(looked, piece) for name, piece in made.items()}
    return {name: tuple(one.shape[:-1]) for name, one in inner.items()}


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)
    }
