"""What an alert is about: the charges that account for most of its rarity, with their shares."""

import math
from collections.abc import Mapping
from typing import Final, TypeAlias

from mad.alerts.values import Mechanism
from mad.types import PAIRS, Alert, Charge, Part

KEYS: Final = 8
"""Charges of one alert that are compared."""

Signature: TypeAlias = Mapping[Mechanism, float]
"""Shares of an alert's rarity, heaviest first; they add up to at most one."""


def signature(alert: Alert) -> Signature:
    """Return what an alert is about.

    A charge accounts for its part's rarity as far as it is above typical among the charges named
    of that part; a component is charged for its view's set and for what goes together in several
    views, whichever is the rarer. A neighbourhood is named by a trusted row, which says nothing of
    mechanisms, so it counts only where nothing else does.
    """
    charges = alert.explanation.charges
    telling = [charge for charge in charges if charge.term != "neighbours"] or list(charges)
    weights: dict[Mechanism, float] = {}
    for charge, weight in zip(telling, _weights(telling, alert.verdict.parts), strict=True):
        if weight > 0:
            key = Mechanism(charge.site, charge.term, charge.index)
            weights[key] = weights.get(key, 0.0) + weight
    heaviest = sorted(weights.items(), key=rank)[:KEYS]
    total = math.fsum(weight for _, weight in heaviest)
    return {key: weight / total for key, weight in heaviest}


def rank(item: tuple[Mechanism, float]) -> tuple[float, str, str, int]:
    """Order mechanisms by weight, heaviest first, and where weights are equal by name."""
    key, weight = item
    return -weight, key.site, key.term, key.index


def _weights(charges: list[Charge], parts: tuple[Part, ...]) -> list[float]:
    excess = [_excess(charge) for charge in charges]
    if math.inf in excess:
        # The model broke down: what is infinite is all that matters, and each of it as much.
        return [1.0 if bits == math.inf else 0.0 for bits in excess]
    above: dict[tuple[str, str], float] = {}
    for charge, bits in zip(charges, excess, strict=True):
        place = (charge.site, charge.term)
        above[place] = above.get(place, 0.0) + bits
    rarity = {(part.site, part.term): part.rarity_bits for part in parts}
    weights = []
    for charge, bits in zip(charges, excess, strict=True):
        place = (charge.site, charge.term)
        of_several = rarity.get((PAIRS, charge.term), -math.inf)
        rare = max(rarity.get(place, math.inf), of_several)
        share = rare / above[place] if above[place] else 0.0
        weights.append(bits * min(share, 1.0) if share >= 0 else bits)
    return weights


def _excess(charge: Charge) -> float:
    excess = charge.bits - charge.typical_bits
    return 0.0 if math.isnan(excess) else max(excess, 0.0)
