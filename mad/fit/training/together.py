"""Several dictionaries trained in one pass over activations, none of which is read twice for two.

Read top to bottom: activations fill a buffer; every dictionary takes steps on random draws from it;
when they have used about half of it, its older half gives way to the next activations.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.plan import DictionaryFigures
from mad.components.dictionaries.train import measured
from mad.fit.checkpoint import Checkpoints, Unfinished, Values, version_identity
from mad.fit.sizes import second_dictionary
from mad.fit.training.buffer import Buffer, extents
from mad.fit.training.order import READ, Order
from mad.fit.training.source import Source
from mad.fit.training.trainee import (
    StepWatch,
    Trainee,
    dictionary_of,
    dictionary_values,
    unwatched,
)
from mad.fit.training.wanted import Job, Wanted, jobs_of
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


ROOM = Room()


@final
@dataclass(frozen=True)
class Trained:
    """Dictionaries, how good they are, and digests of the inputs they have seen."""

    dictionaries: tuple[Dictionary, ...]
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
        longest = max(job.plan.steps for job in jobs)
        if buffer.order.is_whole:
            return _Course(longest, 1)
        half = min(buffer.count(job) for job in jobs) // 2
        steps = max(half // max(job.plan.batch_size for job in jobs), 1)
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
    slots = extents(jobs, activations)
    capacity = min(
        room.bytes // sum(extent.bytes for extent in slots.values()),
        room.vectors // max(extent.vectors for extent in slots.values()),
    )
    order = Order.within(len(source), capacity, seed=seed, size=room.read)
    buffer = Buffer.of(source, order, slots)
    whole = {} if unfinished is None else _identity(source, jobs, order)
    checkpoints = Checkpoints(unfinished, whole)
    course = _Course.of(jobs, buffer)
    trainees = _train(jobs, buffer, course, checkpoints, progress=progress, watch=watch)
    found = _search(trainees, buffer, checkpoints, progress=progress)
    figures = [
        measured(dictionary, buffer.first(job, buffer.count(job))) for job, dictionary in found
    ]
    dictionaries = tuple(dictionary for _, dictionary in found)
    return Trained(dictionaries, tuple(figures), buffer.seen(course.turns))


def _train(
    jobs: Sequence[Job],
    buffer: Buffer,
    course: _Course,
    checkpoints: Checkpoints,
    *,
    progress: Progress,
    watch: StepWatch,
) -> list[Trainee]:
    # Also where a checkpoint goes on later: the first weights and frames are those of the first.
    buffer.turn_to(0, progress=progress, of=course.turns)
    trainees = [Trainee.begin(job, buffer, checkpoints) for job in jobs]

    def done() -> None:
        checkpoints.offer_all(lambda: _kept(trainees))

    behind = [one.steps_done // course.steps for one in trainees if not one.is_finished]
    for turn in range(min([*behind, course.turns - 1]), course.turns):
        buffer.turn_to(turn, progress=progress, of=course.turns)
        for one in trainees:
            until = (turn + 1) * course.steps
            one.train(buffer, until=until, done=done, progress=progress, watch=watch)
    return trainees


def _search(
    trainees: Sequence[Trainee], buffer: Buffer, checkpoints: Checkpoints, *, progress: Progress
) -> list[tuple[Job, Dictionary]]:
    """Finish each dictionary, with a second one beside it where it is asked for and shorter."""
    views = {one.job.look.view for one in trainees}
    searched: dict[str, tuple[int, Values]] = {}
    finished: list[tuple[Job, Dictionary]] = []
    for one in trainees:
        first = one.finish(buffer)
        finished.append((one.job, first))
        if not (one.job.plan.search and first.look.is_own and len(first.look.reads) == 1):
            continue
        stage = f"second dictionary of {first.view}"
        earlier = checkpoints.found(stage)
        if earlier.rows:
            second = dictionary_of(earlier.values, first.look)
        else:
            vectors = buffer.first(one.job, buffer.count(one.job)).source
            second = second_dictionary(first, vectors, one.job.plan, progress=progress)
        searched[stage] = 1, dictionary_values(second)
        checkpoints.offer_all(lambda: _kept(trainees) | searched)
        if second is not None and second.view not in views:
            finished.append((one.job, second))
    return finished


def _kept(trainees: Sequence[Trainee]) -> dict[str, tuple[int, Values]]:
    return {one.stage: one.kept for one in trainees}


def _identity(source: Source, jobs: Sequence[Job], order: Order) -> dict[str, str]:
    """Name everything a training depends on, by the word for it in messages."""
    settings = json.dumps([[asdict(job) for job in jobs], asdict(order)], sort_keys=True)
    return {
        **version_identity(),
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
        **source.identity,
    }
