"""Surprises in, their places among the reference's out; counts of places in, p-values out."""

from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64

MAX_EDGES: Final = 4096
"""Reference values kept apart. Of a larger reference the largest all are, the others evenly in the
logarithm of their rank: what matters of a p-value is its relative size."""
_PASS: Final = 128


@final
@dataclass(frozen=True, eq=False)
class Places:
    """Kept reference values in ascending order, and the open gaps below, between and above them.

    ``reference`` counts the reference at each: gap, value, gap, ..., value, gap.
    """

    edges: Float64[np.ndarray, " edge"]
    reference: Int64[np.ndarray, " place"]

    @staticmethod
    def of(reference: Float64[np.ndarray, " reference"], *, most: int = MAX_EDGES) -> "Places":
        """Choose the values to keep of an ascending reference."""
        edges = np.unique(reference[reference.size - _ranks(reference.size, most)])
        counts = np.bincount(_place(reference, edges), minlength=2 * edges.size + 1)
        return Places(edges, counts)

    def find(self, surprise: Float64[np.ndarray, " batch"]) -> Int64[np.ndarray, " batch"]:
        """Return each surprise's place; larger surprises have larger places."""
        return _place(surprise, self.edges)


class Ranked(NamedTuple):
    """P-values of some inputs, and the counts with these inputs among them."""

    p: Float64[np.ndarray, " batch"]
    counts: Int64[np.ndarray, " place"]


def draw_ties(seed: int, before: int, count: int) -> Float64[np.ndarray, " batch"]:
    """Draw for the next inputs, in (0, 1]; a function of the seed and the input's number alone."""
    chance = np.random.Generator(np.random.PCG64(seed).advance(before))
    return 1 - chance.random(count)


def fixed(
    places: Int64[np.ndarray, " batch"],
    counts: Int64[np.ndarray, " place"],
    ties: Float64[np.ndarray, " batch"],
) -> Float64[np.ndarray, " batch"]:
    """Rank each input among the same counts; ``ties``, uniform in (0, 1], break ties.

    Law: each p-value is uniform for an input exchangeable with what was counted. They are not
    independent: all of them err as these counts do, by about ``counts.sum() ** -0.5``.
    """
    larger = counts.sum() - counts.cumsum()
    rank: Float64[np.ndarray, " batch"] = larger[places] + ties * (counts[places] + 1)
    return rank / (int(counts.sum()) + 1)


def transductive(
    places: Int64[np.ndarray, " batch"],
    counts: Int64[np.ndarray, " place"],
    ties: Float64[np.ndarray, " batch"],
) -> Ranked:
    """Rank each input among the counts and the inputs before it; ``ties`` as for ``fixed``.

    Law: for exchangeable inputs the p-values are uniform and independent, in any number (Vovk,
    Gammerman and Shafer 2005, theorem 8.2). Counting places loses none of it: which of the inputs
    in one gap is largest is as random as the ties. So memory does not grow with the stream.
    """
    p = np.empty(places.size)
    for start in range(0, places.size, _PASS):
        some = slice(start, start + _PASS)
        p[some] = _transductive(places[some], counts, ties[some])
        counts = counts + np.bincount(places[some], minlength=counts.size)
    return Ranked(p, counts)


def _transductive(
    places: Int64[np.ndarray, " batch"],
    counts: Int64[np.ndarray, " place"],
    ties: Float64[np.ndarray, " batch"],
) -> Float64[np.ndarray, " batch"]:
    total = int(counts.sum())
    larger = total - counts.cumsum()
    earlier = np.tri(places.size, k=-1, dtype=bool)
    before_larger = ((places[None, :] > places[:, None]) & earlier).sum(axis=1)
    before_equal = ((places[None, :] == places[:, None]) & earlier).sum(axis=1)
    tied = counts[places] + before_equal
    rank = larger[places] + before_larger + ties * (tied + 1)
    p: Float64[np.ndarray, " batch"] = rank / (total + 1 + np.arange(places.size))
    return p


def _place(
    surprise: Float64[np.ndarray, " batch"], edges: Float64[np.ndarray, " edge"]
) -> Int64[np.ndarray, " batch"]:
    below = np.searchsorted(edges, surprise, side="left")
    return below + np.searchsorted(edges, surprise, side="right")


def _ranks(size: int, most: int) -> Int64[np.ndarray, " edge"]:
    """Choose ranks from the top, 1 being the largest."""
    if size <= most:
        return np.arange(1, size + 1)
    return np.unique(np.geomspace(1, size, most).astype(np.int64))
