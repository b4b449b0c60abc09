"""How alike two dictionaries see the same inputs, whatever their sites, widths and kinds.

Sparse codes of the same inputs in, RSA and linear CKA out. Only tables of inputs by inputs are
dense, never one of inputs by latents.
"""

from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from jaxtyping import Bool, Float64
from scipy import sparse, stats

from mad.report.dictionary.observed import Observed

PROBES = 1_000
"""Inputs to compare on, at most: tables grow with their square."""

RESAMPLES = 500
FEWEST = 4
"""The debiased estimator needs as many inputs."""

Table: TypeAlias = Float64[np.ndarray, "input input"]


@final
@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike two sets of codes of ``inputs`` inputs are; one for the same geometry.

    ``rsa`` is Spearman's correlation of the dissimilarities of all pairs of inputs, which are one
    minus Pearson's correlation of their codes (Kriegeskorte, Mur and Bandettini 2008), over
    inputs that are silent in neither; ``rsa_low`` and ``rsa_high`` bound it in 95 % of bootstraps
    over inputs. ``cka`` is linear centred kernel alignment (Kornblith et al. 2019), and
    ``cka_debiased`` the same from the unbiased estimator of HSIC (Song et al. 2012), about zero for
    unrelated codes however wide they are. NaN where there is too little to compare.
    """

    inputs: int
    rsa: float
    rsa_low: float
    rsa_high: float
    cka: float
    cka_debiased: float


@final
@dataclass(frozen=True)
class Codes:
    """Inner products of the codes of all pairs of inputs, and the means and number of latents."""

    gram: Table
    means: Float64[np.ndarray, " input"]
    width: int

    @staticmethod
    def of(observed: Observed, *, most: int = PROBES) -> "Codes":
        """Take distances along directions for codes, of the first inputs."""
        activity = observed.activity
        count = min(len(activity), most)
        ends = activity.offsets[: count + 1].numpy()
        columns = activity.components[: ends[-1]].numpy()
        values = observed.distances[: ends[-1]].double().numpy()
        shape = (count, max(activity.num_components, 1))
        table = sparse.csr_array((values, columns, ends), shape=shape)
        means = np.asarray(table.sum(axis=1), dtype=np.float64) / shape[1]
        return Codes((table @ table.T).toarray(), means, shape[1])

    @property
    def varies(self) -> Bool[np.ndarray, " input"]:
        """Whether an input's code has any variance over latents; without it nothing correlates."""
        return np.asarray(self._variances > 1e-12 * self.gram.diagonal())

    @property
    def dissimilarities(self) -> Table:
        """One minus Pearson's correlation of the codes of each pair of inputs that vary."""
        kept = np.flatnonzero(self.varies)
        means, deviations = self.means[kept], np.sqrt(self._variances[kept])
        products = self.gram[np.ix_(kept, kept)] / self.width - np.outer(means, means)
        return 1 - products / np.outer(deviations, deviations)

    def keep(self, chosen: Bool[np.ndarray, " input"]) -> "Codes":
        """Return the codes of some inputs."""
        kept = np.flatnonzero(chosen)
        return Codes(self.gram[np.ix_(kept, kept)], self.means[kept], self.width)

    @property
    def _variances(self) -> Float64[np.ndarray, " input"]:
        return np.asarray(self.gram.diagonal() / self.width - self.means**2)


def similarity(first: Codes, second: Codes, *, generator: np.random.Generator) -> Similarity:
    """Compare codes of the same inputs; the generator draws the bootstraps."""
    assert len(first.gram) == len(second.gram)
    both = first.varies & second.varies
    geometry = rsa(
        first.keep(both).dissimilarities, second.keep(both).dissimilarities, generator=generator
    )
    return Similarity(
        len(first.gram), *geometry, cka(first.gram, second.gram), debiased(first.gram, second.gram)
    )


def rsa(
    first: Table, second: Table, *, generator: np.random.Generator
) -> tuple[float, float, float]:
    """Return Spearman's correlation of two tables above the diagonal, and its interval.

    A bootstrap draws inputs, not pairs. It keeps the ranks that all pairs have together, and leaves
    out pairs of an input with itself.
    """
    if len(first) < FEWEST:
        return (float("nan"),) * 3
    one, two = _ranked(first), _ranked(second)
    inputs = len(first)
    draws = generator.multinomial(inputs, np.full(inputs, 1 / inputs), size=RESAMPLES)
    found = _weighted(one, two, draws.astype(np.float64))
    low, high = np.nanquantile(found, (0.025, 0.975)) if np.isfinite(found).any() else (np.nan,) * 2
    whole = _weighted(one, two, np.ones((1, inputs)))
    return float(whole[0]), float(low), float(high)


def cka(first: Table, second: Table) -> float:
    """Return linear CKA of two tables of inner products."""
    one, two = _centred(first), _centred(second)
    return _ratio((one * two).sum(), (one * one).sum(), (two * two).sum())


def debiased(first: Table, second: Table) -> float:
    """Return linear CKA from unbiased estimates of HSIC (Song et al. 2012)."""
    if len(first) < FEWEST:
        return float("nan")
    return _ratio(_hsic(first, second), _hsic(first, first), _hsic(second, second))


def _hsic(first: Table, second: Table) -> float:
    count = len(first)
    one, two = (table - np.diag(table.diagonal()) for table in (first, second))
    rows, columns = one.sum(axis=0), two.sum(axis=0)
    whole = rows.sum() * columns.sum() / ((count - 1) * (count - 2))
    crossed = 2 * (rows @ columns) / (count - 2)
    return float(((one * two).sum() + whole - crossed) / (count * (count - 3)))


def _centred(table: Table) -> Table:
    means = table.mean(axis=0)
    return np.asarray(table - means - means[:, None] + means.mean())


def _ratio(product: float, first: float, second: float) -> float:
    return float(product / np.sqrt(first * second)) if first > 0 and second > 0 else float("nan")


def _ranked(table: Table) -> Table:
    """Return the ranks of the entries above the diagonal, on both sides of it, centred."""
    above = np.triu_indices(len(table), k=1)
    ranks = stats.rankdata(table[above])
    ranked = np.zeros_like(table)
    ranked[above] = ranks - ranks.mean()
    return np.asarray(ranked + ranked.T)


def _weighted(
    first: Table, second: Table, weights: Float64[np.ndarray, "draw input"]
) -> Float64[np.ndarray, " draw"]:
    """Return Pearson's correlation of entries that count as often as both their inputs do."""
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    mean_one, mean_two, square_one, square_two, product = (
        ((weights @ table) * weights).sum(axis=1) / pairs
        for table in (first, second, first * first, second * second, first * second)
    )
    spread = (square_one - mean_one**2) * (square_two - mean_two**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((product - mean_one * mean_two) / np.sqrt(spread))
