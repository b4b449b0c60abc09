"""Several first draws of one attribution-based decomposition: all begin, the best goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, final

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mad.components.parameters.apd.components import Components
from mad.components.parameters.apd.plan import ApdPlan
from mad.components.parameters.apd.training import ApdFigures, ApdTraining

_SETTLING: Final = 0.05
"""Share of the steps, after those in which the rate rises, that all starts train for."""

_COUNTED: Final = 4
"""What starts miss is added up over the last of so many parts of their trial."""

_APART: Final = 1_000_003
"""Between the seeds of two starts."""

_MISSED: Final = "missed"


@final
@dataclass
class ApdStarts:
    """A training of ``plan.starts`` first draws, all but one of which are given up early.

    Where components go is decided in the first steps, and of seven first draws for a toy model of
    superposition three ended with two features in one component, or with two components that share
    two: simpler, and so often of a lower loss, but worse at what components are for. So the start
    goes on that missed least of weights, outputs and hidden layers, whatever its simplicity, at the
    end of a trial: the steps in which the rate rises and ``_SETTLING`` of all. State is what
    checkpoints keep.
    """

    plan: ApdPlan
    trainings: list[ApdTraining]
    missed: list[float] = field(default_factory=list[float])

    @staticmethod
    def begin(model: nn.Module, plan: ApdPlan) -> "ApdStarts":
        """Draw the first components of every start.

        Raises:
            ConfigError: the plan does not fit the model.
        """
        plans = (replace(plan, seed=plan.seed + _APART * start) for start in range(plan.starts))
        trainings = [ApdTraining.begin(model, one) for one in plans]
        return ApdStarts(plan, trainings, [0.0] * plan.starts)

    @property
    def steps_done(self) -> int:
        """Return how many batches have been learnt from."""
        return self.trainings[0].steps_done

    def step(self, batch: Shaped[Tensor, "batch ..."]) -> ApdFigures:
        """Learn from one batch of the model's input; figures are of the best start so far.

        Raises:
            ConfigError: the loss of a start is not finite.
        """
        figures = [one.step(batch) for one in self.trainings]
        if len(figures) == 1:
            return figures[0]
        if self.steps_done > self._trial * (1 - 1 / _COUNTED):
            for start, one in enumerate(figures):
                self.missed[start] += one.loss - self.plan.simplicity_coefficient * one.simplicity
        best = self._best
        if self.steps_done >= self._trial:
            self.trainings, self.missed = [self.trainings[best]], []
        return figures[best]

    def finish(self) -> Components:
        """Return every layer's components, of the best start."""
        return self.trainings[self._best].finish()

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Everything that a step changes; ``restore`` takes it back."""
        if len(self.trainings) == 1:
            return self.trainings[0].state
        states = {
            f"{start}:{name}": tensor
            for start, training in enumerate(self.trainings)
            for name, tensor in training.state.items()
        }
        return {**states, _MISSED: torch.tensor(self.missed, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same training; KeyError or RuntimeError if it is of another."""
        if _MISSED not in state:
            self.trainings, self.missed = self.trainings[:1], []
            self.trainings[0].restore(state)
            return
        self.missed = state[_MISSED].tolist()
        for start, training in enumerate(self.trainings):
            own = f"{start}:"
            training.restore(
                {name.removeprefix(own): one for name, one in state.items() if name.startswith(own)}
            )

    @property
    def _best(self) -> int:
        return min(range(len(self.missed)), key=self.missed.__getitem__, default=0)

    @property
    def _trial(self) -> int:
        share = min(self.plan.warm_up + _SETTLING, 1.0)
        return max(int(self.plan.steps * share), 1)
