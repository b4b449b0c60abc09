"""How finely to describe: the grid of a site, and the pitch of its components' magnitudes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.components.base import Decomposition
from mad.report.accounting import bits_per_parameter
from mad.report.fitting import Fitted, SaidStatistics
from mad.report.measuring import Tally, settle
from mad.report.vocabularies import Directions
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


def grid_step(sample: Sequence[Batch], *, relative: float) -> float:
    """Return a share of the root mean square deviation of the site's coordinates.

    A site that never varies is taken to deviate by 1.
    """
    activations = torch.cat([batch.activity.activation for batch in sample]).double()
    variance = float(activations.var(dim=0, correction=0).mean())
    return relative * (math.sqrt(variance) or 1.0)


def words_of(
    decomposition: Decomposition, site: Site, sample: Sequence[Batch], *, step: float, inputs: int
) -> Directions:
    """Return a decomposition's vocabulary at the pitch that is shortest, by halves of a sample.

    Coarser magnitudes are cheaper and leave more residual: bits fall, then rise, so the first rise
    ends the search.
    """
    components = sample[0].activity.num_components
    directions = sample[0].activity.activation[:0].double()
    if components:
        directions = decomposition.directions(site, torch.arange(components)).double()
    offset = _offset(sample[0].activity, directions)
    best, least = None, math.inf
    for pitch in PITCHES:
        tried = Directions.of(offset, directions, step=step, pitch=pitch * step)
        bits = _tried_bits(tried, sample, inputs=inputs)
        if bits >= least:
            break
        best, least = tried, bits
    assert best is not None, "bits are finite"
    return best


def _offset(
    activity: Activity, directions: Float64[Tensor, "component coordinate"]
) -> Float64[Tensor, " coordinate"]:
    """Return what the decomposition reconstructs when nothing is active, from the first input."""
    first = activity.row(0)
    explained = first.magnitudes.double() @ directions[first.components]
    return (first.activation.double() - first.residual.double())[0] - explained


def _tried_bits(words: Directions, sample: Sequence[Batch], *, inputs: int) -> float:
    """Fit on the even batches of a sample, and return the total over the odd ones."""
    statistics = reduce(
        SaidStatistics.merge,
        (
            SaidStatistics.of(
                words,
                batch.activity,
                batch.context,
                rows=batch.rows,
                keep=torch.zeros_like(batch.rows, dtype=torch.bool),
            )
            for batch in sample[::2]
        ),
    )
    fitted = Fitted.fit(words, statistics, clusters=(), seed=0)
    tally = reduce(
        Tally.merge, (Tally.of(fitted, batch.activity, batch.context) for batch in sample[1::2])
    )
    account = settle(fitted, tally, site="", name="", pitches=1, inputs=inputs)
    return account.parameters * bits_per_parameter(inputs) + inputs * account.mean_bits
