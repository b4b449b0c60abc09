"""The vectors that dictionaries are trained on, as many as memory allows, drawn at random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mad.components.dictionaries.look import Examples
from mad.components.pooling import by_position, pool
from mad.errors import ConfigError
from mad.fit.training.order import Order
from mad.fit.training.source import Source
from mad.fit.training.wanted import Job, Slot
from mad.types import Activations, Progress

STAGE = "capturing activations"


@final
@dataclass(frozen=True)
class Extent:
    """How many vectors a slot has for each input, and how many coordinates each."""

    vectors: int
    coordinates: int

    @property
    def bytes(self) -> int:
        """What one input takes, in single precision."""
        return 4 * self.vectors * self.coordinates


def extents(jobs: Sequence[Job], activations: Activations) -> dict[Slot, Extent]:
    """Measure every slot that the jobs need on the activations of one input.

    Raises:
        ConfigError: a job joins or compares sites of different numbers of positions.
    """
    found: dict[Slot, Extent] = {}
    for job in jobs:
        for slot in job.reads + job.writes:
            found[slot] = Extent(*_vectors(activations, slot).shape)
        lengths = {slot.site: found[slot].vectors for slot in job.reads + job.writes}
        if len(set(lengths.values())) > 1:
            raise ConfigError(
                f"the sites of dictionary {job.look.view!r} have different numbers of positions, "
                f'{lengths}: set positions = "pooled"'
            )
    return found


@final
@dataclass
class Buffer:
    """Vectors of the inputs read last, by slot, and digests of every input read so far.

    ``turn_to`` says which inputs those are; the halves that they are in are read when they are not
    there yet, each piece once for all slots.
    """

    source: Source
    order: Order
    slots: Mapping[Slot, Extent]
    vectors: dict[Slot, Float[Tensor, "vector coordinate"]]
    digests: Int64[Tensor, " inputs"]
    has_digest: Bool[Tensor, " inputs"]
    halves: list[int] = field(default_factory=lambda: [-1, -1])
    was_read: int = 0

    @staticmethod
    def of(source: Source, order: Order, slots: Mapping[Slot, Extent]) -> "Buffer":
        """Make room for the vectors of as many inputs as the order holds."""
        return Buffer(
            source=source,
            order=order,
            slots=slots,
            vectors={
                slot: torch.empty(order.held * extent.vectors, extent.coordinates)
                for slot, extent in slots.items()
            },
            digests=torch.zeros(len(source), dtype=torch.int64),
            has_digest=torch.zeros(len(source), dtype=torch.bool),
        )

    def turn_to(self, number: int, *, progress: Progress, of: int) -> None:
        """Hold halves ``number`` and ``number + 1`` of the order, of ``of`` such positions."""
        if self.order.is_whole:
            if self.halves[0] != 0:
                self._fill(self.order.everything(), 0, self.order.inputs, progress)
            self.halves[0] = 0
            return
        inputs = self.order.pieces * self.order.size
        for half in (number, number + 1):
            if self.halves[half % 2] != half:
                total = max((of + 1) * inputs, self.was_read + inputs)
                self._fill(self.order.half(half), half % 2 * inputs, total, progress)
            self.halves[half % 2] = half

    def count(self, job: Job) -> int:
        """Return how many vectors there are for a job."""
        return len(self.vectors[job.reads[0]])

    def take(self, job: Job, rows: Int64[Tensor, " chosen"]) -> Examples:
        """Return some of a job's examples, in this order."""
        source = _joined([self.vectors[slot][rows] for slot in job.reads])
        if job.look.is_own:
            return Examples.own(source)
        return Examples(source, _joined([self.vectors[slot][rows] for slot in job.writes]))

    def first(self, job: Job, count: int) -> Examples:
        """Return the first of a job's examples, without a copy where they are of one site."""
        source = _joined([self.vectors[slot][:count] for slot in job.reads])
        if job.look.is_own:
            return Examples.own(source)
        return Examples(source, _joined([self.vectors[slot][:count] for slot in job.writes]))

    def seen(self, turns: int, *, everything: bool) -> Int64[Tensor, " seen"]:
        """Return digests of every input that so many positions of the buffer had, or of all."""
        used = torch.ones_like(self.has_digest)
        if not (self.order.is_whole or everything):
            used = torch.zeros_like(used)
            for half in range(turns + 1):
                used[torch.cat(self.order.half(half))] = True
        # Those that were read before a training was killed.
        missing = (used & ~self.has_digest).nonzero().squeeze(1)
        if len(missing):
            self.digests[missing] = self.source.digests(missing)
        return self.digests[used]

    def _fill(
        self, pieces: Sequence[Int64[Tensor, " _"]], start: int, total: int, progress: Progress
    ) -> None:
        progress(STAGE, done=self.was_read, total=total)
        for piece in pieces:
            activations, digests = self.source.read(piece)
            self.digests[piece], self.has_digest[piece] = digests, True
            for slot, extent in self.slots.items():
                place = start * extent.vectors
                vectors = _checked(_vectors(activations, slot), slot, len(piece) * extent.vectors)
                self.vectors[slot][place : place + len(vectors)] = vectors
            start += len(piece)
            self.was_read += len(piece)
            progress(STAGE, done=self.was_read, total=total)


def _vectors(activations: Activations, slot: Slot) -> Float[Tensor, "vector coordinate"]:
    read = pool if slot.positions == "pooled" else by_position
    return read(activations[slot.site], slot.pooling).float()


def _checked(
    vectors: Float[Tensor, "vector coordinate"], slot: Slot, count: int
) -> Float[Tensor, "vector coordinate"]:
    if len(vectors) != count:
        raise ConfigError(
            f"site {slot.site!r} gives {len(vectors)} vectors where its first inputs led to expect "
            f'{count}: inputs of different lengths need positions = "pooled"'
        )
    if not vectors.isfinite().all():
        raise ConfigError(f"site {slot.site!r} gives NaN or infinite numbers on trusted inputs")
    return vectors


def _joined(parts: Sequence[Float[Tensor, "vector _"]]) -> Float[Tensor, "vector coordinate"]:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
