"""How finely to describe: the grid of a site, and the pitch of its components' magnitudes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.components.base import Decomposition
from mad.report.accounting import NOTHING, Described, SiteAccount, bits_per_parameter
from mad.report.fitting import Fitted, SaidStatistics
from mad.report.measuring import Heading, Tally, settle
from mad.report.vocabularies import Directions, Neurons, Principal, Vocabulary
from mad.types import Activity, Context, Site

PITCHES = tuple(2**power for power in range(10))
"""Precisions of magnitudes to try, in grid steps, the finest first."""


@final
@dataclass(frozen=True)
class Batch:
    """Some inputs at one site."""

    rows: Int64[Tensor, " batch"]
    activity: Activity
    context: Context


@final
@dataclass(frozen=True)
class Chosen:
    """The vocabulary that is shortest on a sample, and of how many."""

    vocabulary: Vocabulary
    alternatives: int


@final
@dataclass(frozen=True)
class Trial:
    """A sample of one site: codes are fitted on its even batches and measured on the odd ones.

    ``inputs`` is how many inputs the description is for in the end.
    """

    sample: Sequence[Batch]
    step: float
    inputs: int

    @staticmethod
    def of(sample: Sequence[Batch], *, relative_step: float, inputs: int) -> "Trial":
        """Set the grid to a share of the root mean square deviation of the site's coordinates.

        A site that never varies is taken to deviate by 1.
        """
        activations = torch.cat([batch.activity.activation for batch in sample]).double()
        variance = float(activations.var(dim=0, correction=0).mean())
        return Trial(sample, relative_step * (math.sqrt(variance) or 1.0), inputs)

    @property
    def neurons(self) -> Neurons:
        """The vocabulary of coordinates."""
        return Neurons(self.step, self.sample[0].activity.activation.shape[1])

    def account(self, vocabulary: Vocabulary, silence: Described) -> SiteAccount:
        """Return what a vocabulary costs, with sets of independent components."""
        statistics = reduce(
            SaidStatistics.merge, (_said(vocabulary, batch) for batch in self.sample[::2])
        )
        fitted = Fitted.fit(vocabulary, statistics, clusters=(), seed=0)
        tally = reduce(
            Tally.merge,
            (Tally.of(fitted, batch.activity, batch.context) for batch in self.sample[1::2]),
        )
        return settle(fitted, tally, Heading("", "", 1), inputs=self.inputs, silence=silence)

    def bits(self, vocabulary: Vocabulary, silence: Described) -> float:
        """Return the total bits of all inputs."""
        account = self.account(vocabulary, silence)
        return (
            account.parameters * bits_per_parameter(self.inputs) + self.inputs * account.mean_bits
        )


def decomposed(trial: Trial, decomposition: Decomposition, site: Site) -> Chosen:
    """Return a decomposition's vocabulary at its best pitch."""
    first = trial.sample[0].activity
    directions = first.activation[:0].double()
    if first.num_components:
        every = torch.arange(first.num_components)
        directions = decomposition.directions(site, every).double()
    offset = _offset(first, directions)

    def at(pitch: float) -> Vocabulary:
        return Directions.of(offset, directions, step=trial.step, pitch=pitch)

    return Chosen(_finest_worth(trial, at, _silence(trial))[0], len(PITCHES))


def principal(trial: Trial) -> Chosen:
    """Return principal directions: as one Gaussian, or some as components with a pitch.

    The first is shorter for any number of directions where activations are Gaussian; the second
    can leave a residual that knows which coordinates are zero.
    """
    activations = torch.cat([batch.activity.activation for batch in trial.sample]).double()
    mean, width = activations.mean(dim=0), activations.shape[1]
    _, frame = torch.linalg.eigh(torch.cov(activations.T, correction=0).reshape(width, width))
    frame = frame.flip(1).T
    silence = _silence(trial)
    best: Vocabulary = Directions.of(mean, frame[:0], step=trial.step, pitch=trial.step)
    least = trial.bits(best, silence)
    counts = [2**power for power in range(width.bit_length() - 1)]
    pitches = PITCHES
    for count in counts:

        def at(pitch: float, count: int = count) -> Vocabulary:
            words = Directions.of(mean, frame[:count], step=trial.step, pitch=pitch)
            return Principal(words)

        tried, bits = _finest_worth(trial, at, silence, pitches=pitches)
        pitches = tuple(pitch for pitch in PITCHES if 2 * pitch * trial.step >= tried.pitch)
        if bits < least:
            best, least = tried, bits
    return Chosen(best, 1 + len(counts) * len(PITCHES))


def _finest_worth(
    trial: Trial,
    at: Callable[[float], Vocabulary],
    silence: Described,
    *,
    pitches: Sequence[int] = PITCHES,
) -> tuple[Vocabulary, float]:
    """Return the vocabulary at the pitch with the fewest bits, and those.

    Coarser magnitudes are cheaper and leave more residual: bits fall, then rise, so the first rise
    ends the search.
    """
    best, least = at(pitches[0] * trial.step), math.inf
    for pitch in pitches:
        tried = at(pitch * trial.step)
        bits = trial.bits(tried, silence)
        if bits >= least:
            break
        best, least = tried, bits
    return best, least


def _silence(trial: Trial) -> Described:
    return trial.account(trial.neurons, NOTHING).set


def _said(vocabulary: Vocabulary, batch: Batch) -> SaidStatistics:
    keep = torch.zeros_like(batch.rows, dtype=torch.bool)
    return SaidStatistics.of(vocabulary, batch.activity, batch.context, rows=batch.rows, keep=keep)


def _offset(
    activity: Activity, directions: Float64[Tensor, "component coordinate"]
) -> Float64[Tensor, " coordinate"]:
    """Return what the decomposition reconstructs when nothing is active, from the first input."""
    first = activity.row(0)
    explained = first.magnitudes.double() @ directions[first.components]
    return (first.activation.double() - first.residual.double())[0] - explained
