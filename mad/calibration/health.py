"""Is the promise kept? The observed alarm rate and what it can be by chance."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import betaincinv, betaln

from mad.calibration.conformal import attainable_rate, p_values, required_reference
from mad.errors import InputError
from mad.types import Bits, Reference


class Interval(NamedTuple):
    """From ``low`` to ``high``, both included."""

    low: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class Health:
    """Whether the surprises of a stream are what the reference promised.

    ``observed`` holds the true alarm rate, and ``chance`` the share of alarms that ordinary inputs
    raise, each with the same confidence. ``drift`` is the largest gap between the distributions of
    the stream's surprises and the reference's, positive where the stream's are larger;
    ``drift_p_value`` is the chance of such a gap between exchangeable samples.
    """

    inputs: int
    alarms: int
    nominal: float
    reference: int
    observed: Interval
    chance: Interval
    drift: float
    drift_p_value: float
    confidence: float

    @property
    def rate(self) -> float:
        """The share of inputs that alarm; 0 without inputs."""
        return self.alarms / max(self.inputs, 1)

    @property
    def attainable(self) -> float:
        """The smallest false-alarm rate that this reference can promise."""
        return attainable_rate(self.reference)

    @property
    def standing(self) -> Literal["as promised", "more", "fewer"]:
        """Say whether ordinary inputs could raise this share of alarms."""
        if self.rate > self.chance.high:
            return "more"
        return "fewer" if self.rate < self.chance.low else "as promised"

    @property
    def has_drifted(self) -> bool:
        """Whether chance does not explain the gap to the reference."""
        return self.drift_p_value < 1 - self.confidence

    @property
    def verdict(self) -> str:
        """Say it in a sentence."""
        if not self.inputs:
            return f"no inputs yet, against a promised {_percent(self.nominal)} %"
        if self.nominal < self.attainable:
            alarms = (
                f"a reference of {self.reference} cannot reach {_percent(self.nominal)} %: it "
                f"needs {required_reference(self.nominal)}, and can reach "
                f"{_percent(self.attainable)} %"
            )
        else:
            within = {
                "as promised": "within chance",
                "more": "more than chance explains",
                "fewer": "fewer than chance explains",
            }[self.standing]
            alarms = (
                f"observed {_percent(self.rate)} % against a promised {_percent(self.nominal)} %: "
                f"{within} ({_percent(self.chance.low)}-{_percent(self.chance.high)} %)"
            )
        if not self.has_drifted:
            return alarms
        direction = "higher" if self.drift > 0 else "lower"
        return (
            f"{alarms}; surprises run {direction} than the reference's "
            f"(Kolmogorov-Smirnov {abs(self.drift):.2g}, p {self.drift_p_value:.1g})"
        )


def examine(
    surprise: Bits, reference: Reference, *, false_alarm_rate: float, confidence: float = 0.99
) -> Health:
    """Hold a stream's surprises against its reference, which is ascending.

    The gap is tested between two samples, not against uniform p-values: given one reference,
    p-values lie on a grid of ``1 / (n + 1)`` and are off uniform by about ``n ** -1/2``. Ties make
    both tests cautious. Ordinary inputs fail one or the other at most ``2 (1 - confidence)`` of
    the time.
    """
    inputs = surprise.numel()
    alarms = int((p_values(surprise, reference) <= false_alarm_rate).sum())
    gap, chance_of_gap = 0.0, 1.0
    if inputs and reference.numel():
        # All else of a command loads in four times as long, and few need this.
        from scipy.stats import ks_2samp  # noqa: PLC0415

        test = ks_2samp(surprise.numpy(), reference.numpy())
        # scipy's sign is of the stream's distribution function: larger surprises make it lower.
        gap, chance_of_gap = -float(test.statistic * test.statistic_sign), float(test.pvalue)
    return Health(
        inputs=inputs,
        alarms=alarms,
        nominal=false_alarm_rate,
        reference=reference.numel(),
        observed=binomial_interval(alarms, inputs, confidence=confidence),
        chance=chance_interval(
            false_alarm_rate, reference.numel(), inputs=inputs, confidence=confidence
        ),
        drift=gap,
        drift_p_value=chance_of_gap,
        confidence=confidence,
    )


def binomial_interval(successes: int, trials: int, *, confidence: float = 0.99) -> Interval:
    """Return the exact interval of a rate (Clopper and Pearson 1934); (0, 1) without trials."""
    if not 0 <= successes <= trials:
        raise InputError(f"{successes} successes in {trials} trials is not a count")
    tail = (1 - confidence) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return Interval(float(low), float(high))


def binomial_intervals(
    successes: Int64[np.ndarray, " rate"], trials: int, *, confidence: float = 0.99
) -> Float64[np.ndarray, "rate edge"]:
    """Return the same for several rates among the same trials, far faster than one by one."""
    tail = (1 - confidence) / 2
    low, high = np.zeros(successes.size), np.ones(successes.size)
    some, rest = successes > 0, successes < trials
    low[some] = betaincinv(successes[some], trials - successes[some] + 1, tail)
    high[rest] = betaincinv(successes[rest] + 1, trials - successes[rest], 1 - tail)
    return np.stack([low, high], axis=1)


def largest_gap(sample: Bits, reference: Reference) -> float:
    """Return the largest gap between two distributions, without a sign (Kolmogorov and Smirnov).

    Both are ascending. 0 where either is empty.
    """
    if not sample.numel() or not reference.numel():
        return 0.0
    ours, theirs = sample.numpy(), reference.numpy()
    both = np.concatenate([ours, theirs])
    below_ours = np.searchsorted(ours, both, side="right") / ours.size
    below_theirs = np.searchsorted(theirs, both, side="right") / theirs.size
    return float(np.abs(below_ours - below_theirs).max())


def promised_interval(rate: float, reference: int, *, confidence: float = 0.99) -> Interval:
    """Return where a split-conformal alarm rate lies, given one reference of this size.

    The rate is the ``k``-th smallest of ``reference`` uniform numbers, ``k = floor(rate (n + 1))``,
    hence Beta(k, n + 1 - k) (Vovk 2012, Conditional validity of inductive conformal predictors).
    """
    rank = _rank(rate, reference)
    if rank == 0:
        return Interval(0.0, 0.0)
    tail = (1 - confidence) / 2
    low, high = (betaincinv(rank, reference + 1 - rank, edge) for edge in (tail, 1 - tail))
    return Interval(float(low), float(high))


def chance_interval(
    rate: float, reference: int, *, inputs: int, confidence: float = 0.99
) -> Interval:
    """Return where the share of alarms among so many ordinary inputs lies.

    Both the reference and the stream vary. At most ``x`` inputs alarm if the ``x + k`` largest of
    stream and reference together hold at least ``k`` of the reference, for ``k`` as above: a
    hypergeometric law, exact for surprises that do not tie.
    """
    rank = _rank(rate, reference)
    if rank == 0 or inputs == 0:
        return Interval(0.0, 0.0 if inputs else 1.0)

    def at_most(alarms: int) -> float:
        return 1.0 - _fewer_drawn(rank, reference, inputs, drawn=alarms + rank)

    tail = (1 - confidence) / 2
    low, high = (
        bisect_left(range(inputs), edge, key=at_most) / inputs for edge in (tail, 1 - tail)
    )
    return Interval(low, high)


def _fewer_drawn(count: int, marked: int, others: int, *, drawn: int) -> float:
    """Return the chance that fewer than ``count`` of those drawn without replacement are marked."""
    mean = drawn * marked / (marked + others)
    # Further below its mean than this, all together weigh less than 1e-60 (Bernstein's inequality).
    start = max(0, drawn - others, int(mean - 40 * math.sqrt(mean) - 100))
    some = np.arange(start, min(count, marked + 1, drawn + 1), dtype=np.float64)
    ways = _log_ways(marked, some) + _log_ways(others, drawn - some)
    return min(float(np.exp(ways - _log_ways(marked + others, drawn)).sum()), 1.0)


def _log_ways(whole: int, part: Float64[np.ndarray, " size"] | int) -> Float64[np.ndarray, "..."]:
    """Return the logarithm of how many ways there are to choose some of a whole."""
    return np.asarray(-math.log1p(whole) - betaln(whole - part + 1.0, part + 1.0))


def _rank(rate: float, reference: int) -> int:
    # The rate is a decimal: 0.29 * 100 is a hair under 29.
    return math.floor(rate * (reference + 1) + 1e-9)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g}" if rate < 1 else "100"
