"""One of the dictionaries that are trained side by side: its steps, and what checkpoints keep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import Stored, in_parts, of_parts
from mad.components.dictionaries.kinds.meta import MetaLearner
from mad.components.dictionaries.meta import meta_of
from mad.components.dictionaries.train import CALIBRATED
from mad.components.dictionaries.training import StepFigures, Training
from mad.fit.checkpoint import Checkpoints, Values
from mad.fit.training.buffer import Buffer
from mad.fit.training.wanted import Job
from mad.types import Progress, View

StepWatch: TypeAlias = Callable[[View, int, StepFigures], None]
"""Told of each step of each dictionary: its view, the step's number from 1, and its figures."""


def unwatched(_view: View, _step: int, _figures: StepFigures) -> None:
    """Tell nobody of a step."""


@final
@dataclass(frozen=True)
class Trainee:
    """A training with what draws its batches; both change from step to step."""

    job: Job
    training: Training
    generator: torch.Generator
    note: str

    @staticmethod
    def begin(job: Job, buffer: Buffer, checkpoints: Checkpoints) -> "Trainee":
        """Take the first weights from the buffer, and go on from a checkpoint where there is one.

        Raises:
            ConfigError: the vectors teach nothing.
        """
        training = Training.begin(
            job.look,
            buffer.first(job, buffer.count(job)),
            job.trained_plan,
            widths=tuple(buffer.slots[slot].coordinates for slot in job.writes),
        )
        generator = torch.Generator().manual_seed(job.plan.seed)
        found = checkpoints.found(stage_of(job))
        if not found.rows:
            return Trainee(job, training, generator, found.note)
        training.restore(dict(found.values["state"]))
        generator.set_state(found.values["generator"])
        note = f"resuming at step {found.rows} of {job.plan.steps}"
        return Trainee(job, training, generator, note)

    @property
    def stage(self) -> str:
        """Its name in progress and in checkpoints."""
        return stage_of(self.job)

    @property
    def steps_done(self) -> int:
        """How many steps it has taken."""
        return self.training.steps_done

    @property
    def is_finished(self) -> bool:
        """Whether it has taken all of them."""
        return self.steps_done >= self.job.plan.steps

    @property
    def kept(self) -> tuple[int, Values]:
        """What a checkpoint keeps."""
        state = tuple(self.training.state.items())
        return self.steps_done, {"state": state, "generator": self.generator.get_state()}

    def train(
        self,
        buffer: Buffer,
        *,
        until: int,
        done: Callable[[], None],
        progress: Progress,
        watch: StepWatch,
    ) -> None:
        """Take steps on batches from the buffer, up to a number of them; ``done`` hears of each."""
        stage, plan, count = self.stage, self.job.plan, buffer.count(self.job)
        progress(stage, done=self.steps_done, total=plan.steps, note=self.note)
        while self.steps_done < min(until, plan.steps):
            rows = torch.randint(count, (plan.batch_size,), generator=self.generator)
            figures = self.training.step(buffer.take(self.job, rows))
            watch(self.job.look.view, self.steps_done, figures)
            progress(stage, done=self.steps_done, total=plan.steps, note=_note(figures))
            done()

    def finish(self, buffer: Buffer) -> Dictionary:
        """Return the dictionary, calibrated on the buffer where its kind needs it."""
        return self.training.finish(buffer.first(self.job, CALIBRATED))

    def finish_meta(self, base: Dictionary) -> Dictionary:
        """Return the meta-dictionary that was trained jointly with it."""
        learner = self.training.learner
        assert isinstance(learner, MetaLearner)
        return meta_of(learner, base)


def stage_of(job: Job) -> str:
    """Name the training of a job, in progress and in checkpoints."""
    return f"training dictionary {job.look.view}"


def dictionary_values(dictionary: Stored | None) -> Values:
    """Return what a checkpoint keeps of a dictionary, or of there being none."""
    if dictionary is None:
        return {"weights": (), "rest": ""}
    weights, rest = in_parts(dictionary)
    return {"weights": tuple(weights.items()), "rest": rest}


def dictionary_of(values: Values) -> Stored | None:
    """Return what ``dictionary_values`` kept."""
    return of_parts(dict(values["weights"]), values["rest"]) if values["rest"] else None


def _note(figures: StepFigures) -> str:
    return (
        f"unexplained variance {figures.unexplained:.3f}, {figures.active:.1f} active, "
        f"{figures.dead_share:.1%} dead"
    )
