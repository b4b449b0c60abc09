"""One dictionary in training: batches in, a dictionary out, and between them a state to keep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.dictionaries import resampling
from mad.components.dictionaries.base import Forward, Learner, Step
from mad.components.dictionaries.descent import descend
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.initial import Start, initial
from mad.components.dictionaries.kinds.registry import learner_of
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.missed import missed_share
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.sparse import Spare
from mad.components.moments import Adam, moments, restore_moments
from mad.errors import ConfigError


@final
@dataclass(frozen=True)
class StepFigures:
    """What one step found: share of squares left over, mean active latents, share of the dead."""

    unexplained: float
    active: float
    dead_share: float


@final
@dataclass(frozen=True)
class Attempt:
    """What a training makes of a batch, with gradients.

    ``examples`` are normalised; what the skip passes on is no longer in their target. ``explained``
    is the reconstruction of the whole normalised target, and ``missed`` the share of its squares
    that it misses.
    """

    examples: Examples
    forward: Forward
    explained: Float[Tensor, "batch target"]
    missed: Float[Tensor, ""]


@final
@dataclass
class Training:
    """A learner with its optimiser and counters. State is what checkpoints keep."""

    look: Look
    plan: DictionaryPlan
    source: Frame
    target: Frame
    widths: tuple[int, ...]
    learner: Learner
    skip: Tensor | None
    optimiser: Adam
    silent_for: Tensor
    steps_done: int = field(default=0)
    spare: Spare = field(default_factory=Spare)

    @staticmethod
    def begin(
        look: Look,
        sample: Examples,
        plan: DictionaryPlan,
        *,
        widths: tuple[int, ...] = (),
        start: Dictionary | None = None,
    ) -> "Training":
        """Take the first weights from a sample of vectors, or from a TopK dictionary.

        ``widths`` are the coordinates of each site explained, where there are several.

        Raises:
            ConfigError: when there are too few vectors, they are all equal, or not finite.
        """
        widths = widths or (sample.target.shape[1],)
        assert len(widths) == len(look.writes), "several sites need their widths"
        source, target = (
            _frames(look, sample, widths) if start is None else (start.source, start.target)
        )
        normalised = _normalised(sample, source, target)
        first = initial(normalised, plan) if start is None else _start(start, plan, normalised)
        learner = learner_of(replace(first, widths=widths), plan)
        # From zero, beside latents at data points: a least-squares start ends no better.
        coordinates = sample.source.shape[1], sample.target.shape[1]
        skip = torch.zeros(coordinates, requires_grad=True) if plan.skip else None
        trained = [*learner.parameters.values(), *([] if skip is None else [skip])]
        return Training(
            look=look,
            plan=plan,
            source=source,
            target=target,
            widths=widths,
            learner=learner,
            skip=skip,
            optimiser=Adam(trained),
            silent_for=torch.zeros(learner.width, dtype=torch.int64),
        )

    def step(self, batch: Examples) -> StepFigures:
        """Learn from one batch of vectors."""
        attempt = self.attempt(batch)
        return self.learn(attempt, attempt.missed)

    def attempt(self, batch: Examples) -> Attempt:
        """Reconstruct a batch of vectors."""
        whole = _normalised(batch, self.source, self.target)
        forward = self.learner.forward(whole.source)
        if self.skip is None:
            missed = missed_share(forward.explained, whole.target)
            return Attempt(whole, forward, forward.explained, missed)
        passed_on = whole.source @ self.skip
        explained = forward.explained + passed_on
        # Detached: what a kind asks for besides must not teach the skip.
        rest = Examples(whole.source, whole.target - passed_on.detach())
        return Attempt(rest, forward, explained, missed_share(explained, whole.target))

    def learn(self, attempt: Attempt, loss: Float[Tensor, ""]) -> StepFigures:
        """Take one step down the gradient of a loss and of what the kind asks for besides.

        Raises:
            ConfigError: earlier steps were so long that nothing is finite any more.
        """
        forward = attempt.forward
        unexplained = float(attempt.missed.detach())
        if not math.isfinite(unexplained):
            raise ConfigError(
                f"the training of {self.look.view!r} diverged at step {self.steps_done + 1}: set a "
                f"learning_rate below {self.plan.rate:g}"
            )
        self._count(forward)
        dead = (self.silent_for > self.plan.dead_after).nonzero().squeeze(1)
        taught = dead if self.plan.dead == "auxiliary" else dead[:0]
        now = Step(self.steps_done / self.plan.steps, taught)
        self.update(loss + self.learner.penalty(forward, attempt.examples, now), forward)
        if dead.numel() and resampling.is_due(self.plan, self.steps_done):
            self._resample(dead, attempt)
        return StepFigures(
            unexplained=unexplained,
            active=forward.latents.components.numel() / len(forward.latents),
            dead_share=dead.numel() / self.silent_for.numel(),
        )

    def update(self, loss: Float[Tensor, ""], forward: Forward) -> None:
        """Take one step down the gradient of a loss."""
        # Full rate for most of the run, then linearly to zero: late noise is what keeps L2 high.
        rate = self.plan.rate * min(1.0, 5 * (1 - self.steps_done / self.plan.steps))
        # Only ours: a loss may lead through a model, whose gradients are not to be touched.
        parameters = list(self._parameters.values())
        with self.spare.reused():
            loss.backward(inputs=parameters)
        descend(self.optimiser, rate=rate)
        self.spare.keep(parameters)
        self.learner.stepped(forward)
        self.steps_done += 1

    def finish(self, sample: Examples) -> Dictionary:
        """Return the dictionary, calibrated on a sample of vectors where the kind needs it."""
        whole = _normalised(sample, self.source, self.target)
        skip = None if self.skip is None else self.skip.detach()
        learned = self.learner.finish(
            whole if skip is None else Examples(whole.source, whole.target - whole.source @ skip)
        )
        return Dictionary(
            look=self.look,
            encoder=learned.encoder,
            decoder=learned.decoder,
            source=self.source,
            target=self.target,
            widths=self.widths,
            skip=skip,
        )

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Everything that a step changes; ``restore`` takes it back."""
        return {
            **{f"parameter.{name}": one.detach() for name, one in self._parameters.items()},
            **{f"buffer.{name}": one for name, one in self.learner.buffers.items()},
            **moments(self.optimiser),
            "silent_for": self.silent_for,
            "steps_done": torch.tensor(self.steps_done),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same training; KeyError or RuntimeError if it is of another."""
        with torch.no_grad():
            for name, one in self._parameters.items():
                one.copy_(state[f"parameter.{name}"])
            for name, one in self.learner.buffers.items():
                one.copy_(state[f"buffer.{name}"])
            self.silent_for.copy_(state["silent_for"])
        restore_moments(self.optimiser, state)
        self.steps_done = int(state["steps_done"])

    @property
    def _parameters(self) -> Mapping[str, Tensor]:
        """What gradients change; the skip comes last, as in the optimiser."""
        skip = {} if self.skip is None else {"skip": self.skip}
        return {**self.learner.parameters, **skip}

    def _resample(self, dead: Int64[Tensor, " dead"], attempt: Attempt) -> None:
        # A generator of its own for each step, so that training resumes to the same draws.
        generator = torch.Generator().manual_seed(1_000_003 * self.plan.seed + self.steps_done)
        drawn = resampling.draw(
            attempt.forward, attempt.examples, dead.numel(), generator=generator
        )
        begun = resampling.begin_anew(self.learner, self.optimiser.state, dead, drawn)
        self.silent_for[begun] = 0

    def _count(self, forward: Forward) -> None:
        self.silent_for += len(forward.latents)
        self.silent_for[forward.latents.components] = 0


def _frames(look: Look, sample: Examples, widths: tuple[int, ...]) -> tuple[Frame, Frame]:
    written = f"site {', '.join(map(repr, look.writes))}"
    target = Frame.of(sample.target, name=written, widths=widths)
    if look.is_own:
        return target, target
    return Frame.of(sample.source, name=f"site {', '.join(map(repr, look.reads))}"), target


def _normalised(examples: Examples, source: Frame, target: Frame) -> Examples:
    read = source.normalised(examples.source)
    return Examples(read, read if examples.is_own else target.normalised(examples.target))


def _start(dictionary: Dictionary, plan: DictionaryPlan, sample: Examples) -> Start:
    encoder = dictionary.encoder
    assert isinstance(encoder, TopKEncoder), "training goes on from TopK only"
    start = Start(encoder.weight, encoder.bias, dictionary.decoder)
    return start if plan.kind == "topk" else start.measured(sample, plan.k)
