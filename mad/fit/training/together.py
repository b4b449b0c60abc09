"""Several dictionaries trained in one pass over activations, none of which is read twice for two.

Read top to bottom: activations fill a buffer; every dictionary takes steps on random draws from it;
when they have used about half of it, its older half gives way to the next activations.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import Stored
from mad.components.dictionaries.look import Look
from mad.components.dictionaries.meta import meta_dictionary
from mad.components.dictionaries.plan import DictionaryFigures
from mad.components.dictionaries.train import measured
from mad.components.dictionaries.training import StepFigures
from mad.fit.checkpoint import Checkpoints, Unfinished, Values, version_identity
from mad.fit.sizes import second_dictionary
from mad.fit.training.buffer import Buffer, Extent, extents
from mad.fit.training.by_answer import train_by_answer
from mad.fit.training.of_layer import block_figures, take_apart
from mad.fit.training.order import READ, Order
from mad.fit.training.source import Source
from mad.fit.training.trainee import (
    StepWatch,
    Trainee,
    dictionary_of,
    dictionary_values,
    stage_of,
    unwatched,
)
from mad.fit.training.wanted import Job, Slot, Wanted, jobs_of
from mad.types import Progress

MAX_TRAINING_VECTORS = 200_000
"""Vectors that the buffer holds of a site at most: more would mix no better."""

BUFFER_BYTES = 2 * 1024**3
"""Memory for buffers, unless set otherwise."""


@final
@dataclass(frozen=True, kw_only=True)
class Room:
    """How much the buffers of all sites may hold, and how many inputs are read at a time."""

    bytes: int = BUFFER_BYTES
    vectors: int = MAX_TRAINING_VECTORS
    read: int = READ

    def inputs(self, slots: Mapping[Slot, Extent]) -> int:
        """Return how many inputs find room; none where no slot is needed."""
        if not slots:
            return 0
        return min(
            self.bytes // sum(extent.bytes for extent in slots.values()),
            self.vectors // max(extent.vectors for extent in slots.values()),
        )


ROOM = Room()


@final
@dataclass(frozen=True)
class Trained:
    """Dictionaries, how good they are, and digests of the inputs they have seen."""

    dictionaries: tuple[Stored, ...]
    figures: tuple[DictionaryFigures, ...]
    seen: Int64[Tensor, " seen"]


@final
@dataclass(frozen=True)
class _Course:
    """How many steps there are between two turns of the buffer, and how many turns."""

    steps: int
    turns: int

    @staticmethod
    def of(jobs: Sequence[Job], buffer: Buffer) -> "_Course":
        streamed = [job for job in jobs if job.is_streamed]
        longest = max((job.plan.steps for job in streamed), default=1)
        if buffer.order.is_whole or not streamed:
            return _Course(longest, 1)
        half = min(buffer.count(job) for job in streamed) // 2
        steps = max(half // max(job.plan.batch_size for job in streamed), 1)
        return _Course(steps, math.ceil(longest / steps))


def train_together(  # noqa: PLR0913  # what is read, what is wanted, within what, and who watches
    source: Source,
    wanted: Sequence[Wanted],
    *,
    seed: int,
    progress: Progress,
    room: Room = ROOM,
    unfinished: Unfinished | None = None,
    watch: StepWatch = unwatched,
) -> Trained:
    """Train every dictionary that is wanted, and measure each on the vectors last in the buffer.

    Where all vectors find room, each dictionary is what it would be alone. Else activations are
    read as often as there are steps for. The same source, wishes and room give the same
    dictionaries, also where ``unfinished`` has checkpoints of a training that was killed, with
    which this one goes on; None keeps none. Whoever has stored the dictionaries removes them.

    Raises:
        ConfigError: two dictionaries would have one name, or a site cannot be read, gives numbers
            that are not finite, or teaches nothing.
    """
    activations, _ = source.read(torch.zeros(1, dtype=torch.int64))
    jobs = jobs_of(wanted, activations)
    slots = extents([job for job in jobs if job.is_buffered], activations)
    order = Order.within(len(source), room.inputs(slots), seed=seed, size=room.read)
    buffer = Buffer.of(source, order, slots)
    whole = {} if unfinished is None else _identity(source, jobs, order)
    checkpoints = Checkpoints(unfinished, whole)
    course = _Course.of(jobs, buffer)
    found = _train(jobs, buffer, course, checkpoints, progress=progress, watch=watch)
    figures = [_figures(job, dictionary, buffer) for job, dictionary in found]
    dictionaries = tuple(dictionary for _, dictionary in found)
    # A bilinear layer's dictionary has seen none, which is as safe to say.
    everything = not all(job.is_streamed for job in jobs)
    seen = buffer.seen(course.turns, everything=everything)
    return Trained(dictionaries, tuple(figures), seen)


def _train(
    jobs: Sequence[Job],
    buffer: Buffer,
    course: _Course,
    checkpoints: Checkpoints,
    *,
    progress: Progress,
    watch: StepWatch,
) -> list[tuple[Job, Stored]]:
    """Train every job, and finish each in its turn, what stands beside it after it."""
    # Also where a checkpoint goes on later: the first weights and frames are those of the first.
    if buffer.slots:
        buffer.turn_to(0, progress=progress, of=course.turns)
    streamed = [job for job in jobs if job.is_streamed]
    trainees = {job.look: Trainee.begin(job, buffer, checkpoints) for job in streamed}
    kept = Kept(checkpoints, trainees)
    _take_steps(list(trainees.values()), buffer, course, kept, progress=progress, watch=watch)
    finished: list[tuple[Job, Stored]] = []
    for job in jobs:
        own = _own(job, buffer, kept, progress=progress)
        finished.append((job, own))
        if not isinstance(own, Dictionary):
            continue
        if job.plan.meta_width:
            finished.append((job, _meta(job, own, kept, progress=progress)))
        second = _second(job, own, buffer, kept, progress=progress)
        if second is not None and all(second.view not in other.views for other in jobs):
            finished.append((job, second))
    return finished


def _own(job: Job, buffer: Buffer, kept: "Kept", *, progress: Progress) -> Stored:
    """Finish a training, or make what is not trained from the buffer."""
    if job.is_streamed:
        return kept.trainees[job.look].finish(buffer)
    way = "end to end" if job.layer is None else "of a layer"
    make = train_by_answer if job.layer is None else take_apart
    found = kept.once(
        f"{stage_of(job)} {way}", partial(make, job, buffer.source, progress=progress)
    )
    assert found is not None
    return found


def _meta(job: Job, base: Dictionary, kept: "Kept", *, progress: Progress) -> Stored:
    """Finish the meta-dictionary of a base, or train it now."""
    if job.is_joint:
        return kept.trainees[job.look].finish_meta(base)
    stage = f"training meta-dictionary of {base.view}"
    plan = replace(job.trained_plan, kind="topk", width=job.plan.meta_width, k=job.plan.meta_k)

    def step_done(step: int, found: StepFigures) -> None:
        note = f"unexplained variance {found.unexplained:.3f}"
        progress(stage, done=step, total=plan.steps, note=note)

    found = kept.once(stage, partial(meta_dictionary, base, plan, step_done=step_done))
    assert found is not None
    return found


def _take_steps(
    trainees: Sequence[Trainee],
    buffer: Buffer,
    course: _Course,
    kept: "Kept",
    *,
    progress: Progress,
    watch: StepWatch,
) -> None:
    behind = [one.steps_done // course.steps for one in trainees if not one.is_finished]
    for turn in range(min([*behind, course.turns - 1]), course.turns):
        buffer.turn_to(turn, progress=progress, of=course.turns)
        for one in trainees:
            until = (turn + 1) * course.steps
            one.train(buffer, until=until, done=kept.offer, progress=progress, watch=watch)


def _second(
    job: Job, first: Dictionary, buffer: Buffer, kept: "Kept", *, progress: Progress
) -> Stored | None:
    """Search beside a dictionary where that is asked for."""
    if not (job.plan.search and job.look.is_own and len(job.look.reads) == 1):
        return None
    vectors = buffer.first(job, buffer.count(job)).source
    plan = replace(job.plan, meta_width=0)
    search = partial(second_dictionary, first, vectors, plan, progress=progress)
    return kept.once(f"second dictionary of {first.view}", search)


def _figures(job: Job, dictionary: Stored, buffer: Buffer) -> DictionaryFigures:
    """Measure a dictionary on the vectors last in the buffer, which has no sequences."""
    if isinstance(dictionary, AttentionBlock):
        return block_figures(dictionary, buffer.source)
    return measured(dictionary, buffer.first(job, buffer.count(job)))


@final
@dataclass(frozen=True)
class Kept:
    """What checkpoints keep of a pass: every trainee as it is, and what was found once."""

    checkpoints: Checkpoints
    trainees: Mapping[Look, Trainee]
    found: dict[str, tuple[int, Values]] = field(default_factory=dict)

    def once(self, stage: str, make: Callable[[], Stored | None]) -> Stored | None:
        """Return what an earlier run found of a stage, or find it."""
        earlier = self.checkpoints.found(stage)
        result = dictionary_of(earlier.values) if earlier.rows else make()
        self.found[stage] = 1, dictionary_values(result)
        self.offer()
        return result

    def offer(self) -> None:
        """Write a checkpoint if one is due."""
        self.checkpoints.offer_all(self._all)

    def _all(self) -> dict[str, tuple[int, Values]]:
        return {one.stage: one.kept for one in self.trainees.values()} | self.found


def _identity(source: Source, jobs: Sequence[Job], order: Order) -> dict[str, str]:
    """Name everything a training depends on, by the word for it in messages."""
    settings = json.dumps([[asdict(job) for job in jobs], asdict(order)], sort_keys=True)
    return {
        **version_identity(),
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
        **source.identity,
    }
