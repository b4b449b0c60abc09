"""Train a gated attention block: what an attention layer read and wrote in, a block out."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.attention.heads import Heads, visible_pairs
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.kernels import to_unit_length
from mad.components.dictionaries.look import Look
from mad.components.dictionaries.missed import missed_share

_POWER, _SOFTENED = 0.6, 1e-4
"""A gate costs its power: little more when it is wide open than when it is half open, so that one
head does what two could (the power is that of the authors' code); softened, since its slope at zero
has no bound."""

_FAINT = 0.01
"""The share of the most that a head carries which counts as silence: no gate is ever quite shut."""

CALIBRATED = 1_024
"""Sequences that a trained block is calibrated on, at most."""

_PIECE = 64

_SLOPE, _OFFSET = 0.8, 0.2
"""How far a gate's query side opens at the point its head starts from, by likeness and anywhere."""


@final
@dataclass(frozen=True, kw_only=True)
class AttentionPlan:
    """How to train one block; sizes are counts.

    More heads than the layer has; ``narrow`` coordinates of a head's queries and keys; batches of
    ``batch_size`` sequences. ``sparsity`` is the price of an open gate at every pair of positions,
    in shares of what is to be explained.
    """

    heads: int = 32
    narrow: int = 4
    sparsity: float = 1.0
    is_causal: bool = True
    steps: int = 1_000
    batch_size: int = 128
    learning_rate: float = 1e-2
    seed: int = 0


@final
@dataclass(frozen=True)
class SequencePairs:
    """What goes into an attention layer and what comes out, at each position of each sequence."""

    source: Float[Tensor, "batch position source"]
    target: Float[Tensor, "batch position target"]

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.source)

    def take(self, rows: Int64[Tensor, " chosen"]) -> "SequencePairs":
        """Return some sequences, in this order."""
        return SequencePairs(self.source[rows], self.target[rows])

    def first(self, count: int) -> "SequencePairs":
        """Return the first sequences."""
        return SequencePairs(self.source[:count], self.target[:count])


@final
@dataclass(frozen=True)
class AttentionFigures:
    """What one step found: share of squares left over, and mean active heads a position."""

    unexplained: float
    active: float


AttentionStepDone: TypeAlias = Callable[[int, AttentionFigures], None]


@final
@dataclass
class AttentionTraining:
    """A block in training, with its optimiser."""

    look: Look
    plan: AttentionPlan
    source: Frame
    target: Frame
    heads: Heads
    bias: Float[Tensor, " target"]
    optimiser: torch.optim.Adam
    steps_done: int = field(default=0)

    @staticmethod
    def begin(look: Look, sample: SequencePairs, plan: AttentionPlan) -> "AttentionTraining":
        """Start heads at data points: each writes, and opens its gate, as at one position.

        Positions are drawn by the squares of what is written there. The centre of what is explained
        is its median, since most heads are silent at most positions; a bias is learned besides.

        Raises:
            ConfigError: there are too few vectors, they are all equal, or not finite.
        """
        source, target = _frames(look, sample)
        generator = torch.Generator().manual_seed(plan.seed)
        read = source.normalised(sample.source.flatten(0, 1))
        written = target.normalised(sample.target.flatten(0, 1))
        heads = _first_heads(read, written, plan, generator)
        bias = torch.zeros(written.shape[1], requires_grad=True)
        trained = [bias, *(getattr(heads, name) for name in _trained())]
        optimiser = torch.optim.Adam(trained, lr=plan.learning_rate, fused=True)
        return AttentionTraining(look, plan, source, target, heads, bias, optimiser)

    def step(self, batch: SequencePairs) -> AttentionFigures:
        """Learn from one batch of sequences."""
        source, target = _within(self.source, batch.source), _within(self.target, batch.target)
        visible = visible_pairs(source.shape[1], is_causal=self.plan.is_causal)
        gates = self.heads.gates(source, source) * visible
        carried = (gates * self.heads.attended(source, source, visible)).sum(dim=3).transpose(1, 2)
        explained = self.bias + carried @ self.heads.output
        missed = missed_share(explained.flatten(0, 1), target.flatten(0, 1))
        # From the first step: heads that found their place together do not part again.
        cost = ((gates + _SOFTENED) ** _POWER - _SOFTENED**_POWER).sum()
        self._update(missed + self.plan.sparsity * cost / (len(batch) * visible.sum()))
        active = int((carried.detach() != 0).sum()) / (carried.shape[0] * carried.shape[1])
        return AttentionFigures(float(missed.detach()), active)

    def finish(self, sample: SequencePairs) -> AttentionBlock:
        """Return the block; what a head carries less than a hundredth of its most is nothing."""
        source = _within(self.source, sample.source)
        visible = visible_pairs(source.shape[1], is_causal=self.plan.is_causal)
        weights = {one.name: getattr(self.heads, one.name).detach() for one in fields(Heads)}
        centre = self.target.centre + self.target.scale * self.bias.detach()
        target = replace(self.target, centre=centre)
        heads = Heads(**weights)
        most = torch.stack(
            [
                heads.carried(one, one, visible).abs().amax(dim=(0, 1))
                for one in source.split(_PIECE)
            ]
        ).amax(dim=0)
        heads = replace(heads, floor=_FAINT * most)
        return AttentionBlock(self.look, heads, self.source, target, self.plan.is_causal)

    def _update(self, loss: Float[Tensor, ""]) -> None:
        rate = self.plan.learning_rate * min(1.0, 5 * (1 - self.steps_done / self.plan.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        to_unit_length(self.heads.output)
        self.steps_done += 1


def train_attention_block(
    look: Look, pairs: SequencePairs, plan: AttentionPlan, *, step_done: AttentionStepDone
) -> AttentionBlock:
    """Train on sequences in memory; the same plan and sequences give the same block.

    Raises:
        ConfigError: there are too few vectors, they are all equal, or not finite.
    """
    training = AttentionTraining.begin(look, pairs, plan)
    generator = torch.Generator().manual_seed(plan.seed)
    for step in range(1, plan.steps + 1):
        rows = torch.randint(len(pairs), (plan.batch_size,), generator=generator)
        step_done(step, training.step(pairs.take(rows)))
    return training.finish(pairs.first(CALIBRATED))


def _frames(look: Look, sample: SequencePairs) -> tuple[Frame, Frame]:
    read, written = sample.source.flatten(0, 1), sample.target.flatten(0, 1)
    source = Frame.of(read, name=f"site {look.reads[0]!r}")
    measured = Frame.of(written, name=f"site {look.writes[0]!r}")
    centre = written.median(dim=0).values
    return source, replace(measured, centre=centre)


def _within(
    frame: Frame, sequences: Float[Tensor, "batch position coordinate"]
) -> Float[Tensor, "batch position coordinate"]:
    return frame.normalised(sequences.flatten(0, 1)).reshape(sequences.shape)


def _first_heads(
    read: Float[Tensor, "vector source"],
    written: Float[Tensor, "vector target"],
    plan: AttentionPlan,
    generator: torch.Generator,
) -> Heads:
    heads, coordinates = plan.heads, read.shape[1]

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / math.sqrt(coordinates)

    points = _points(written, heads, generator)
    at = read[points]
    first = Heads(
        query=drawn(heads, coordinates, plan.narrow),
        query_bias=torch.zeros(heads, plan.narrow),
        key=drawn(heads, coordinates, plan.narrow),
        key_bias=torch.zeros(heads, plan.narrow),
        gate_query=_SLOPE * at / at.square().sum(dim=1, keepdim=True).clamp_min(1e-8),
        gate_query_bias=torch.full((heads,), _OFFSET),
        gate_key=_FAINT * drawn(heads, coordinates),
        gate_key_bias=torch.full((heads,), _SLOPE),
        value=functional.normalize(drawn(heads, coordinates), dim=1),
        value_bias=torch.zeros(heads),
        output=functional.normalize(written[points], dim=1),
        floor=torch.zeros(heads),
    )
    for name in _trained():
        getattr(first, name).requires_grad_()
    return first


def _trained() -> list[str]:
    return [one.name for one in fields(Heads) if one.name != "floor"]


def _points(
    written: Float[Tensor, "vector target"], count: int, generator: torch.Generator
) -> Int64[Tensor, " component"]:
    """Draw positions by the squares of what is written there."""
    # No more than the largest number of categories that one draw may have.
    few = torch.randperm(len(written), generator=generator)[: 2**20]
    weights = written[few].square().sum(dim=1)
    again = int((weights > 0).sum()) < count
    return few[torch.multinomial(weights, count, replacement=again, generator=generator)]
