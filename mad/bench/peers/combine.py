"""A score at each site in, one score of the input out; the rule is fixed before any test.

What a score means at a site is learnt from ``scaling``, trusted inputs held out from the fit, and
not from those that p-values rank against.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mad.bench.peers.base import Scores, Vectors
from mad.calibration.rarity import Rarity
from mad.types import View

SiteScores: TypeAlias = Float64[Tensor, "batch site"]
"""A column a site; those of an ensemble have a column for each of its members too."""


def mean_over_sites(scaling: SiteScores) -> Callable[[SiteScores], Scores]:
    """Standardise each site on trusted inputs and average."""
    standardise = _standardise(scaling)
    return lambda scores: standardise(scores).mean(dim=1)


def max_over_sites(scaling: SiteScores) -> Callable[[SiteScores], Scores]:
    """Standardise each site on trusted inputs and take the largest."""
    standardise = _standardise(scaling)
    return lambda scores: standardise(scores).amax(dim=1)


def rarity_sum(scaling: SiteScores) -> Callable[[SiteScores], Scores]:
    """Turn each site into bits of rarity on trusted inputs and add them up."""
    rarity = Rarity.fit(scaling)
    return lambda scores: rarity.bits(scores).sum(dim=1)


def joined(
    fitting: Mapping[View, Vectors],
) -> Callable[[Mapping[View, Vectors]], Float[Tensor, "batch coordinate"]]:
    """Return how to read all sites as one vector, each coordinate in its trusted deviation."""
    trusted = torch.cat(list(fitting.values()), dim=1)
    mean, unit = trusted.mean(dim=0), _unit(trusted)
    return lambda vectors: (torch.cat([vectors[site] for site in fitting], dim=1) - mean) / unit


def _standardise(scaling: SiteScores) -> Callable[[SiteScores], SiteScores]:
    mean, unit = scaling.mean(dim=0), _unit(scaling)
    return lambda scores: (scores - mean) / unit


def _unit(values: Float[Tensor, "batch column"]) -> Float[Tensor, " column"]:
    """Return each column's deviation; 1 for one that never varies, which has no unit."""
    spread = values.std(dim=0, correction=0)
    return torch.where(spread > 1e-6 * values.abs().amax(dim=0), spread, 1.0)
