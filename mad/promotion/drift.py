"""How rare the active baseline finds what a candidate has learnt from, in bits an input.

Both keep a sample of the directions in which their trusted activations pointed, for the
neighbourhood's code. Under the active one's code and its own count of trusted inputs, each kept
direction of the candidate has a rarity, whose mean over ordinary inputs is ``1 / ln 2`` bits,
whatever the model. Poison is what the active baseline would alert on and the candidate would not:
it has to be among what the candidate learnt from, and its rarity has no upper end, so that a few
inputs in a hundred move the mean by bits. No input is needed that anybody kept, and whoever sent
the data has no say in which of it is kept.

What it cannot see is poison that the active baseline itself finds ordinary, and inputs too few to
be among those kept; planted canaries are for that.
"""

import math
from dataclasses import dataclass
from typing import Final, final

from jaxtyping import Float64
from torch import Tensor

from mad.baseline.bundle import Baseline
from mad.calibration.rarity import Rarity
from mad.codes.neighbours import NeighbourCode
from mad.types import Site

_SPREAD_BITS: Final = 1 / math.log(2)
"""Standard deviation of the rarity of ordinary inputs, which is exponential."""

_DEVIATIONS: Final = 3.0


@final
@dataclass(frozen=True, slots=True)
class Drift:
    """The mean rarity at one site beyond that of ordinary inputs, and what of it may be chance."""

    site: Site
    bits: float
    chance_bits: float


def drift(active: Baseline, candidate: Baseline) -> Drift | None:
    """Return the drift at the site where most is left after chance; None if none is comparable.

    That is so for another decomposition, and where trusted directions are not kept.
    """
    if (
        active.manifest.decomposition_fingerprint != candidate.manifest.decomposition_fingerprint
        or active.manifest.model_fingerprint != candidate.manifest.model_fingerprint
    ):
        return None
    learnt = {
        part.site: part.code for part in candidate.parts if isinstance(part.code, NeighbourCode)
    }
    found = [
        _at(part.site, part.code, _row(active.weighing.parts, place), learnt[part.site], active)
        for place, part in enumerate(active.parts)
        if isinstance(part.code, NeighbourCode) and part.site in learnt
    ]
    return max(found, key=lambda one: one.bits - one.chance_bits, default=None)


def _at(
    site: Site, known: NeighbourCode, rarity: Rarity, learnt: NeighbourCode, active: Baseline
) -> Drift:
    lengths = known.direction_lengths(learnt.directions.double())
    bits: Float64[Tensor, "kept 1"] = rarity.bits(lengths.unsqueeze(1))
    inputs = 1 / len(lengths) + 1 / max(active.manifest.weighing_inputs, 1)
    return Drift(
        site,
        float(bits.mean() - rarity.typical[0]),
        _DEVIATIONS * _SPREAD_BITS * math.sqrt(inputs),
    )


def _row(rarity: Rarity, place: int) -> Rarity:
    here = slice(place, place + 1)
    return Rarity(rarity.knots[here], rarity.rarity[here], rarity.scale[here], rarity.typical[here])
