"""Meta: latents of a dictionary, written as sums of the few latents of a dictionary over them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.base import Encoder, Forward, Learned, Learner, Step
from mad.components.dictionaries.initial import initial
from mad.components.dictionaries.kinds.topk import TopKLearner
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan


@final
@dataclass(frozen=True)
class MetaEncoder:
    """The latents of ``base``, each spread over its own few meta-latents.

    Base latent ``j`` counts for ``shares[offsets[j]:offsets[j + 1]]`` of the meta-latents
    ``components[...]``: the codes of its decoder direction in a dictionary of such directions
    (Bussmann, Pearce and Leask 2024). All meta-latents that are not zero are active.
    """

    kind: ClassVar[str] = "meta"

    base: Encoder
    offsets: Int64[Tensor, " offsets"]
    components: Int64[Tensor, " share"]
    shares: Float[Tensor, " share"]
    meta_width: int

    @property
    def width(self) -> int:
        """The number of meta-latents."""
        return self.meta_width

    def encode(self, source: Float[Tensor, "batch source"]) -> Latents:
        """Add up what the active base latents of each vector say of each meta-latent."""
        latents = self.base.encode(source)
        counts = self.offsets.diff()[latents.components]
        ends = counts.cumsum(dim=0)
        # The k-th share of a base latent stands k places after the first of them.
        shift = (self.offsets[latents.components] - ends + counts).repeat_interleave(counts)
        places = torch.arange(len(shift)) + shift
        rows = torch.arange(len(latents)).repeat_interleave(latents.offsets.diff())
        keys = rows.repeat_interleave(counts) * self.width + self.components[places]
        keys, own = keys.unique(return_inverse=True)
        added = latents.values.repeat_interleave(counts) * self.shares[places]
        values = added.new_zeros(len(keys)).index_add(0, own, added)
        keys, values = keys[values != 0], values[values != 0]
        per_row = (keys // self.width).bincount(minlength=len(latents))
        offsets = functional.pad(per_row.cumsum(dim=0), (1, 0))
        return Latents(offsets, keys % self.width, values)


@final
@dataclass
class MetaLearner:
    """Trains a dictionary of any kind, and beside it a small TopK one of its decoder directions.

    The meta-dictionary learns to explain the directions of unit length. The share of their squares
    that it misses, times ``weight``, is what the base is asked for: above zero, directions made of
    few parts that others share; below zero, directions that are no such sums, as Levinson 2026 has
    it, who weighs ``exp(-error)``. At zero the meta-dictionary only looks on.

    ``turn`` counts the directions shown so far, ``silent`` those since each meta-latent was active.
    """

    base: Learner
    meta: TopKLearner
    weight: float
    rows: int
    dead_after: int
    turn: Int64[Tensor, ""]
    silent: Int64[Tensor, " meta"]

    @staticmethod
    def begin(base: Learner, plan: DictionaryPlan) -> "MetaLearner":
        """Start the meta-dictionary at the first directions of the base."""
        own = replace(plan, kind="topk", width=plan.meta_width, k=plan.meta_k, skip=False)
        directions = Examples.own(normalised_directions(base.parameters["decoder"].detach()))
        return MetaLearner(
            base,
            TopKLearner.begin(initial(directions, own), own),
            plan.meta_weight,
            rows=min(plan.batch_size, base.width),
            dead_after=plan.dead_after,
            turn=torch.tensor(0),
            silent=torch.zeros(plan.meta_width, dtype=torch.int64),
        )

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights of the base, and those of the meta-dictionary as ``meta...``."""
        return {**self.base.parameters, **_prefixed(self.meta.parameters)}

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """What the base keeps, and the counts of directions."""
        return {**self.base.buffers, **_prefixed({"turn": self.turn, "silent": self.silent})}

    @property
    def width(self) -> int:
        """The number of latents of the base."""
        return self.base.width

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct by the base."""
        return self.base.forward(source)

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Return what the base asks for, and what is left over of directions of its decoder."""
        return self.base.penalty(forward, batch, step) + self._left_over(step)

    def stepped(self, forward: Forward) -> None:
        """Mend both dictionaries."""
        self.base.stepped(forward)
        self.meta.stepped(forward)

    def finish(self, sample: Examples) -> Learned:
        """Return the base; ``meta_of`` makes a dictionary of the other one."""
        return self.base.finish(sample)

    def _left_over(self, step: Step) -> Float[Tensor, ""]:
        """Return the meta-dictionary's loss, whose gradient reaches the base ``weight`` times."""
        decoder = self.base.parameters["decoder"]
        # In turns: of a wide decoder all directions at once would outweigh the batch.
        rows = (int(self.turn) + torch.arange(self.rows)) % self.width
        seen = normalised_directions(decoder[rows])
        seen = seen.detach() + self.weight * (seen - seen.detach())
        forward = self.meta.forward(seen)
        error = (seen - forward.explained).square().sum() / seen.detach().square().sum()
        self.turn += len(rows)
        self.silent += len(rows)
        self.silent[forward.latents.components] = 0
        dead = (self.silent > self.dead_after).nonzero().squeeze(1)
        detached = Examples.own(seen.detach())
        return error + self.meta.penalty(forward, detached, replace(step, dead=dead))


def normalised_directions(
    decoder: Float[Tensor, "component target"],
) -> Float[Tensor, "component target"]:
    """Return directions as meta-dictionaries see them: with a mean square of one, uncentred."""
    directions: Tensor = functional.normalize(decoder, dim=1) * decoder.shape[1] ** 0.5
    return directions


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"meta.{name}": one for name, one in tensors.items()}
