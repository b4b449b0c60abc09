"""How many bits describe one vector with the components of a decomposition.

Vectors to fit codes to and others to measure in, mean bits out. It compares sizes of dictionaries
quickly; ``mad report accounting`` compares vocabularies with care.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mad.codes.residual import GaussianCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.statistics import ResidualMoments, SetCounts
from mad.components.base import Decomposition
from mad.types import Activity, Bits

_PRIOR_ENTRIES = 10.0


def description_bits(
    decomposition: Decomposition,
    fitting: Float[Tensor, "fitting coordinate"],
    held_out: Float[Tensor, "held_out coordinate"],
    *,
    step: float,
    inputs: int,
) -> float:
    """Return how many bits describe one held-out vector of the decomposition's only view.

    Codes are fitted to other vectors: a coin a component for the set, a Gaussian each for its
    magnitude, and a Gaussian for the residual, all on one grid of that ``step``, so that
    descriptions compare at equal precision. The dictionary's parameters cost ``1/2 log2 n`` bits
    each, shared by the ``n`` inputs to describe; the residual's covariance is left out, since
    every decomposition has one.
    """
    ((view, site),) = decomposition.views.items()
    seen, new = (decomposition.activity({site: part})[view] for part in (fitting, held_out))
    lengths = decomposition.directions(view, torch.arange(seen.num_components)).norm(dim=1)
    parameters = seen.num_components * (held_out.shape[1] + 3)
    return float(activity_bits(seen, new, lengths.double(), step=step).mean()) + (
        parameters * 0.5 * math.log2(inputs) / inputs
    )


def activity_bits(
    seen: Activity, new: Activity, unit: Float64[Tensor, " component"], *, step: float
) -> Bits:
    """Return what each new activity costs under codes fitted to other ones of the same view.

    ``unit`` is how far one unit of each component's magnitude reaches. Parameters not counted.
    """
    nowhere, context = (torch.full((len(part),), -1) for part in (seen, new))
    sets = IndependentCode.fit(SetCounts.of(seen, nowhere)).lengths(new, context)
    residual = GaussianCode.fit(ResidualMoments.of(seen), step=step).lengths(new, context)
    return sets + _magnitude_bits(seen, new, unit, step=step) + residual


def _magnitude_bits(
    seen: Activity, new: Activity, unit: Float64[Tensor, " component"], *, step: float
) -> Bits:
    """Describe distances along directions, each component's around its own mean."""
    distance = seen.magnitudes.double() * unit[seen.components]
    entries = torch.bincount(seen.components, minlength=seen.num_components) + _PRIOR_ENTRIES
    spread = distance.var(correction=0) if len(distance) else distance.sum()
    total = torch.full_like(unit, float(distance.mean() if len(distance) else 0) * _PRIOR_ENTRIES)
    mean = total.index_add(0, seen.components, distance) / entries
    squares = torch.full_like(unit, float(spread) * _PRIOR_ENTRIES)
    away = (distance - mean[seen.components]).square()
    variance = squares.index_add(0, seen.components, away) / entries + step**2
    at = new.components
    off = new.magnitudes.double() * unit[at] - mean[at]
    nats = 0.5 * (off.square() / variance[at] + (2 * math.pi * variance[at] / step**2).log())
    bits = torch.zeros(len(new), dtype=torch.float64)
    return bits.index_add(0, new.rows, nats / math.log(2))
