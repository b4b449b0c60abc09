"""A second dictionary of a size that describes vectors much shorter, where there is such a size.

Vectors of one view and its first dictionary in, a second one or none out.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.codes.residual import RELATIVE_RESOLUTION
from mad.components.base import Decomposition
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import train_autoencoder
from mad.components.dictionaries.training import StepFigures
from mad.components.unexplained import Unexplained
from mad.fit.description import description_bits
from mad.types import Progress

Kind = TypeVar("Kind")

MIN_VECTORS = 1_000
"""With fewer there is no search: held-out lengths would say more of the sample than of a size."""

MAX_COORDINATES = 2_048
"""Nor is there with more: ten covariances so wide take longer than all else."""

SHORTER = 0.8
"""What is added must pay: a second dictionary, and each component that an input may use, stays only
where the description is at most this share of the next one's without it. Without that margin a
dictionary would get components that only mend what its encoder misses of the others, and active
sets would no longer tell."""

WIDTHS = (32, 64, 128, 256)
COUNTS = (2, 3, 4, 6, 8, 12, 16)
FIRST_WIDTH = 128
"""Latents, and how many of them an input may use; the search begins among counts at one width."""

TRIALS, FINALS = 10, 5
"""Dictionaries trained at most: for a moment, to find the size (five counts, three widths, two
counts beside the best); then in full, each from the one before, with ever fewer active."""

TRIAL_STEPS = 300
STEP_LENGTH = 0.12
"""How far one step may move a direction, which has length one. Adam moves every coordinate alike,
so its rate falls with the root of their number. At this rate, an order faster than the first
dictionary's, few steps tell sizes apart, and on vectors that are sparse sums a long training
recovers more of them."""

_MEASURED, _CODED = 4_000, 8_192


@final
@dataclass(frozen=True)
class Size:
    """How many latents there are, and how many of them an input may use."""

    width: int
    k: int


def second_dictionary(
    first: Dictionary,
    vectors: Float[Tensor, "vector coordinate"],
    plan: DictionaryPlan,
    *,
    progress: Progress,
) -> Dictionary | None:
    """Train a second dictionary of a view, or return None where none is much shorter.

    Shorter both than the first dictionary and than a Gaussian without components. A fifth of the
    vectors, at most 4,000, measures and trains no dictionary but the first, to whose favour that
    is. It is of kind ``topk``, and its view is the first one's with the size for a suffix, as
    ``w128k6``. The same vectors and plan give the same dictionary. There is no search with fewer
    vectors than ``MIN_VECTORS`` or more coordinates than ``MAX_COORDINATES``.
    """
    if len(vectors) < MIN_VECTORS or vectors.shape[1] > MAX_COORDINATES:
        return None
    sample = _Sample.of(vectors, plan)
    rival = min(sample.bits(Unexplained(first.sites[0])), sample.bits(first))
    trained = count(1)

    def report(done: int, verdict: str) -> None:
        stage = f"sizing a second dictionary for {first.view}"
        note = f"{verdict}; {rival:.0f} bits without"
        progress(stage, done=done, total=TRIALS + FINALS, note=note)

    def measure(dictionary: Dictionary) -> float:
        bits = sample.bits(dictionary)
        report(next(trained), f"{_suffix(dictionary)} {bits:.0f} bits")
        return bits

    @cache
    def trial(size: Size) -> float:
        return measure(sample.train(size, steps=min(TRIAL_STEPS, plan.steps)))

    limit = SHORTER * rival
    size = shortest_size(trial, widths=sample.widths, limit=limit)
    thinned = sample.thinned(size) if size else ()
    second = fewest_active(((one, measure(one)) for one in thinned), limit=limit)
    report(TRIALS + FINALS, f"{_suffix(second)} added" if second else "none much shorter")
    if second is None:
        return None
    suffix = ":".join(filter(None, (first.look.suffix, _suffix(second))))
    return replace(second, look=replace(first.look, suffix=suffix))


def _suffix(dictionary: Dictionary) -> str:
    assert isinstance(dictionary.encoder, TopKEncoder)
    return f"w{dictionary.width}k{dictionary.encoder.k}"


def shortest_size(
    measure: Callable[[Size], float], *, widths: Sequence[int], limit: float
) -> Size | None:
    """Find the size of the shortest description, one coordinate at a time.

    First the count at ``FIRST_WIDTH``, by halves; then the width; then the counts beside the best.
    None as soon as no count is within the limit.
    """

    def best(size: Size, others: Iterable[Size]) -> Size:
        return min([size, *others], key=measure)

    def of_width(width: int) -> Size:
        return replace(size, width=width)

    def of_count(k: int) -> Size:
        return replace(size, k=k)

    size = Size(FIRST_WIDTH, COUNTS[3])
    size = best(size, map(of_count, COUNTS[1::4]))
    size = best(size, map(of_count, _beside(COUNTS, size.k)))
    if measure(size) > limit:
        return None
    # Twice, since the narrowest is two steps away.
    size = best(size, map(of_width, _beside(widths, size.width)))
    size = best(size, map(of_width, _beside(widths, size.width)))
    return best(size, map(of_count, (max(size.k - 1, 1), size.k + 1)))


def fewest_active(measured: Iterable[tuple[Kind, float]], *, limit: float) -> Kind | None:
    """Of dictionaries with ever fewer active components, and their bits, take the last good one.

    It is within the limit, and not much longer, as ``SHORTER`` says, than any before it. No more
    are asked for than the first that is not good; None where that is the first of all.
    """
    fewest = None
    for dictionary, bits in measured:
        if bits > limit:
            break
        fewest, limit = dictionary, min(limit, bits / SHORTER)
    return fewest


def _beside(values: Sequence[int], value: int) -> Sequence[int]:
    """Return the values just before and after one of them."""
    place = values.index(value)
    return [*values[max(place - 1, 0) : place], *values[place + 1 : place + 2]]


@final
@dataclass(frozen=True)
class _Sample:
    """Vectors to train on and others to measure with, the grid, and how to train."""

    fitting: Float[Tensor, "fitting coordinate"]
    held_out: Float[Tensor, "held_out coordinate"]
    step: float
    plan: DictionaryPlan

    @staticmethod
    def of(vectors: Float[Tensor, "vector coordinate"], plan: DictionaryPlan) -> "_Sample":
        """Hold out a fifth of the vectors at random, no more than are measured with."""
        order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(plan.seed))
        held_out = min(_MEASURED, len(vectors) // 5)
        deviation = float((vectors - vectors.mean(dim=0)).square().mean().sqrt())
        return _Sample(
            vectors[order[held_out:]],
            vectors[order[:held_out]],
            RELATIVE_RESOLUTION * deviation,
            replace(plan, kind="topk", learning_rate=STEP_LENGTH / math.sqrt(vectors.shape[1])),
        )

    @property
    def widths(self) -> Sequence[int]:
        """The widths that there are enough vectors for."""
        return [width for width in WIDTHS if 4 * width <= len(self.fitting)]

    def train(self, size: Size, *, steps: int, start: Dictionary | None = None) -> Dictionary:
        """Train a dictionary of that size, from scratch or going on from another."""
        own = replace(self.plan, width=size.width, k=size.k, steps=steps)
        return train_autoencoder("", self.fitting, own, step_done=_unheard, start=start)

    def thinned(self, size: Size) -> Iterator[Dictionary]:
        """Train in full, and go on with one active component less at a time.

        Trained from the start with no component to spare, latents get stuck between directions.
        """
        dictionary = None
        for k in range(size.k, max(size.k - FINALS, 0), -1):
            fewer = replace(size, k=k)
            dictionary = self.train(fewer, steps=self.plan.steps, start=dictionary)
            yield dictionary

    def bits(self, decomposition: Decomposition) -> float:
        """Return how many bits describe one held-out vector."""
        return description_bits(
            decomposition,
            self.fitting[:_CODED],
            self.held_out,
            step=self.step,
            inputs=len(self.fitting) + len(self.held_out),
        )


def _unheard(_step: int, _figures: StepFigures) -> None:
    """Report no step of a training that is itself a step."""
