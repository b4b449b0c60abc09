"""Components whose use has moved from trusted data: how often each is used, then and now."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64


class Moved(NamedTuple):
    """One component, what share of trusted inputs and of the traffic uses it, and bits an input."""

    component: int
    trusted_rate: float
    observed_rate: float
    saved_bits: float


def saved_bits(
    observed: Float64[np.ndarray, " component"], trusted: Float64[np.ndarray, " component"]
) -> Float64[np.ndarray, " component"]:
    """Return what coins of the observed rates would save over those of trusted data, an input.

    That is the divergence of Kullback and Leibler, in bits; trusted rates are never 0 or 1. By
    chance alone it is about ``0.7`` bits over the number of inputs.
    """
    return np.asarray(_share(observed, trusted) + _share(1.0 - observed, 1.0 - trusted))


def refitted_bits(
    observed: Float64[np.ndarray, " component"],
    trusted: Float64[np.ndarray, " component"],
    *,
    inputs: int,
    trusted_inputs: int,
) -> float:
    """Return what coins fitted anew would save, an input, over those of trusted data; in bits.

    That is over the components for which it pays to be told apart: each costs its name among all,
    and for its new rate half the logarithm of how many inputs a difference between both samples
    is known from (Rissanen 1978). So chance alone comes to next to nothing, however many there are.
    """
    if not inputs:
        return 0.0
    known_from = 1 / (1 / inputs + 1 / trusted_inputs)
    price = (np.log2(trusted.size) + np.log2(max(known_from, 2.0)) / 2) / known_from
    return float(np.maximum(saved_bits(observed, trusted) - price, 0.0).sum())


def _share(
    observed: Float64[np.ndarray, " component"], trusted: Float64[np.ndarray, " component"]
) -> Float64[np.ndarray, " component"]:
    """Return ``observed log2(observed / trusted)``, which is 0 where nothing was observed."""
    return np.asarray(observed * np.log2(np.where(observed > 0, observed, 1.0) / trusted))


def furthest(
    observed: Float64[np.ndarray, " component"],
    trusted: Float64[np.ndarray, " component"],
    *,
    limit: int,
) -> list[Moved]:
    """Return the components that moved furthest, furthest first, at most ``limit``."""
    saved = saved_bits(observed, trusted)
    return [
        Moved(place, float(trusted[place]), float(observed[place]), float(saved[place]))
        for place in np.argsort(-saved, kind="stable")[:limit].tolist()
        if saved[place] > 0
    ]
