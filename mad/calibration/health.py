"""Is the promise kept? The observed alarm rate and what it can be by chance."""

from scipy.stats import beta

from mad.errors import InputError


def binomial_interval(
    successes: int, trials: int, *, confidence: float = 0.99
) -> tuple[float, float]:
    """Return the exact interval of a rate (Clopper and Pearson 1934); (0, 1) without trials."""
    if not 0 <= successes <= trials:
        raise InputError(f"{successes} successes in {trials} trials is not a count")
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)
