"""Is the promise kept? The observed alarm rate and what it can be by chance."""

import math
from typing import NamedTuple

from scipy.stats import beta

from mad.errors import InputError


class Interval(NamedTuple):
    """From ``low`` to ``high``, both included."""

    low: float
    high: float


def binomial_interval(successes: int, trials: int, *, confidence: float = 0.99) -> Interval:
    """Return the exact interval of a rate (Clopper and Pearson 1934); (0, 1) without trials."""
    if not 0 <= successes <= trials:
        raise InputError(f"{successes} successes in {trials} trials is not a count")
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return Interval(float(low), float(high))


def promised_interval(rate: float, reference: int, *, confidence: float = 0.99) -> Interval:
    """Return where a split-conformal alarm rate lies, given one reference of this size.

    The rate is the ``k``-th smallest of ``reference`` uniform numbers, ``k = floor(rate (n + 1))``,
    hence Beta(k, n + 1 - k) (Vovk 2012, Conditional validity of inductive conformal predictors).
    """
    # The rate is a decimal: 0.29 * 100 is a hair under 29.
    rank = math.floor(rate * (reference + 1) + 1e-9)
    if rank == 0:
        return Interval(0.0, 0.0)
    tail = (1 - confidence) / 2
    low, high = (beta.ppf(edge, rank, reference + 1 - rank) for edge in (tail, 1 - tail))
    return Interval(float(low), float(high))
