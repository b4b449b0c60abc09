"""Split-conformal p-values: rank a surprise among surprises held out from the fit."""

import math

import torch

from mad.types import Bits, PValues, Reference


def p_values(surprise: Bits, reference: Reference) -> PValues:
    """Rank each surprise among the reference, which is ascending; ties count against the input.

    Law (validity): if an input and the reference are exchangeable, ``P(p <= a) <= a`` for every
    ``a`` and any size of the reference (Vovk, Gammerman and Shafer 2005, proposition 2.8).
    """
    # Of few numbers, numpy makes a third of the work that torch does.
    below = reference.numpy().searchsorted(surprise.numpy(), side="left")
    return torch.from_numpy((reference.numel() - below + 1) / (reference.numel() + 1))


def attainable_rate(reference: int) -> float:
    """Return the smallest p-value, hence false-alarm rate, that a reference of this size has."""
    return 1 / (reference + 1)


def required_reference(false_alarm_rate: float) -> int:
    """Return the fewest reference surprises with which a p-value can be that small."""
    # One below what exact numbers would need, since the quotient is rounded.
    size = max(math.ceil(1 / false_alarm_rate) - 2, 1)
    while 1 / (size + 1) > false_alarm_rate:
        size += 1
    return size


def threshold(reference: Reference, false_alarm_rate: float) -> float:
    """Return the surprise, in bits, that an input must exceed for ``p <= false_alarm_rate``.

    Infinite when the reference is too small for any p-value to be that small.
    """
    at_least = torch.arange(reference.numel() + 1, dtype=torch.float64)
    small_enough = int(((at_least + 1) / (reference.numel() + 1) <= false_alarm_rate).sum())
    if small_enough == 0:
        return math.inf
    return float(reference[-small_enough]) if small_enough <= reference.numel() else -math.inf
