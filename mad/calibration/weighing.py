"""Weigh the parts of a ledger: code lengths in, bits of rarity of the whole out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.calibration.rarity import Rarity
from mad.types import MECHANISM_TERMS, Ledger, Weighed, site_of

AFFECTED: Final = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of sites that an anomaly may show at, each as likely as the others; the last is all."""

CALIBRATOR: Final = 0.5
"""Exponent of the calibrator that turns a p-value into evidence, ``k p ** (k - 1)``."""

MECHANISM_PRIOR: Final = 0.1
"""Chance that an anomaly shows in how components were used rather than in how new it all is."""


@final
@dataclass(frozen=True)
class Weighing:
    """What turns a ledger into rarities, fitted on trusted inputs that fitted no code.

    A part's rarity ``T`` is ``-log2`` of a p-value ``p``; ``k p ** (k - 1)`` makes it evidence,
    whose mean over trusted inputs is one (Vovk and Wang 2021). Evidence is averaged over the terms
    and views of a site, which may each be blind, and multiplied over sites: ``prod (1 - a + a
    evidence)``, averaged over the shares ``a`` of ``AFFECTED``, so that one loud site or many faint
    ones count. Sites of one model repeat each other, so the product over all of them, ``a = 1``, is
    taken to the ``power`` that leaves it the spread it would have if they did not. The mechanism's
    terms and the others are taken together first by themselves, then averaged by
    ``MECHANISM_PRIOR``. Each of the three is told as a rarity again: ``totals``.

    Of an active set both the whole length and that of the rare combination alone are evidence, as
    either is the better where sets vary in size or do not. So ``parts`` has a column for each part
    of the ledger and then one for each combination; column ``i`` is of site ``place[i]``.
    """

    parts: Rarity
    totals: Rarity
    place: Int64[Tensor, " column"]
    of_mechanism: Bool[Tensor, " column"]
    power: Float64[Tensor, " 2"]

    @staticmethod
    def fit(ledger: Ledger) -> "Weighing":
        """Count how rare lengths are. ConfigError if a part is infinite for every input."""
        place, of_mechanism = _layout(ledger)
        columns = _columns(ledger)
        # A part that hardly varies among trusted inputs would else become a cliff: one more bit of
        # length is never more than one of rarity.
        parts = Rarity.fit(columns, least_scale=1 / math.log(2))
        sites = _Sites.of(place, of_mechanism)
        by_site = sites.evidence(parts.bits(columns))
        power = torch.tensor([_repeated(one) for one in sites.split(by_site)], dtype=torch.float64)
        evidence = torch.from_numpy(_evidence(by_site, sites, power.tolist()))
        return Weighing(parts, Rarity.fit(evidence), place, of_mechanism, power)

    def weigh(self, ledger: Ledger) -> Weighed:
        """Return how rare each input's lengths are; infinite lengths are infinitely rare."""
        rarity = self.parts.bits(_columns(ledger))
        by_site = self._sites.evidence(rarity)
        told = _evidence(by_site, self._sites, self.power.tolist())
        totals = torch.from_numpy(self.totals.by_part(np.ascontiguousarray(told.T)))
        return Weighed(rarity[:, : len(ledger.keys)], *totals.unbind())

    @property
    def mechanism(self) -> "Weighing":
        """The same for ledgers of the mechanism's parts alone, in the same order.

        Law: their mechanism weighs what it weighs in the whole ledger. The other totals are those
        of an input whose other parts are no evidence of anything, which is not what they were.
        """
        own = self.of_mechanism
        return replace(self, parts=self.parts.of(own), place=self.place[own], of_mechanism=own[own])

    @cached_property
    def _sites(self) -> "_Sites":
        return _Sites.of(self.place, self.of_mechanism)


def _is_combined(ledger: Ledger) -> Bool[Tensor, " part"]:
    """Say which parts split into components and their combination."""
    return ~ledger.marginal[0].isnan()


def _columns(ledger: Ledger) -> Float64[Tensor, "batch column"]:
    bits, marginal = ledger.bits.numpy(), ledger.marginal.numpy()
    combined = np.flatnonzero(~np.isnan(marginal[0]))
    combination = bits.take(combined, axis=1) - marginal.take(combined, axis=1)
    return torch.from_numpy(np.concatenate([bits, combination], axis=1))


def _layout(ledger: Ledger) -> tuple[Int64[Tensor, " column"], Bool[Tensor, " column"]]:
    """Return the site of each column, whatever its view, and whether it is of the mechanism."""
    captured = [site_of(view) for view, _ in ledger.keys]
    sites = list(dict.fromkeys(captured))
    place = torch.tensor([sites.index(site) for site in captured], dtype=torch.int64)
    of_mechanism = torch.tensor([term in MECHANISM_TERMS for _, term in ledger.keys])
    combined = _is_combined(ledger)
    return torch.cat([place, place[combined]]), torch.cat([of_mechanism, of_mechanism[combined]])


Evidence: TypeAlias = Float64[np.ndarray, "batch _"]
"""``ln`` of the evidence of each site that has such parts."""


@final
@dataclass(frozen=True)
class _Sites:
    """Which columns are averaged for each site: of the mechanism's terms, then of the others.

    Columns are brought in this ``order``, in which those of a site begin at ``starts``; ``counts``
    is how many they are. The first ``of_mechanism`` sites are those of the mechanism's terms.
    """

    order: Int64[np.ndarray, " column"]
    starts: Int64[np.ndarray, " site"]
    counts: Int64[np.ndarray, " site"]
    of_mechanism: int

    @staticmethod
    def of(place: Int64[Tensor, " column"], of_mechanism: Bool[Tensor, " column"]) -> "_Sites":
        """Work out what each weighing needs, once."""
        own, others = (kind.nonzero().squeeze(1).numpy() for kind in (of_mechanism, ~of_mechanism))
        (first, starts), (then, later) = (_in_order(one, place.numpy()) for one in (own, others))
        every = np.concatenate([starts, len(first) + later])
        counts = np.diff(every, append=len(place))
        return _Sites(np.concatenate([first, then]), every, counts, len(starts))

    def evidence(self, rarity: Float64[Tensor, "batch column"]) -> Evidence:
        """Average the evidence of each site's parts: of the mechanism's, and of the others."""
        finite = np.minimum(rarity.numpy().take(self.order, axis=1), _MOST_BITS)
        each = math.log(CALIBRATOR) + (1 - CALIBRATOR) * math.log(2) * finite
        largest = np.maximum.reduceat(each, self.starts, axis=1)
        each -= largest.repeat(self.counts, axis=1)
        total = np.add.reduceat(np.exp(each, out=each), self.starts, axis=1)
        averaged: Evidence = largest + np.log(total / self.counts)
        return averaged

    def split(
        self, by_site: Float64[np.ndarray, "*share batch _"]
    ) -> tuple[Float64[np.ndarray, "*share batch _"], Float64[np.ndarray, "*share batch _"]]:
        """Return that of the mechanism's terms, and that of the others."""
        return by_site[..., : self.of_mechanism], by_site[..., self.of_mechanism :]


def _in_order(
    columns: Int64[np.ndarray, " own"], sites: Int64[np.ndarray, " column"]
) -> tuple[Int64[np.ndarray, " own"], Int64[np.ndarray, " site"]]:
    ordered = columns[sites[columns].argsort(kind="stable")]
    _, starts = np.unique(sites[ordered], return_index=True)
    return ordered, starts


_MOST_BITS: Final = 1e12
"""Stands for an infinite rarity where rarities are averaged."""


def _repeated(by_site: Evidence) -> float:
    """Return the power that undoes what sites repeat of each other, at most one."""
    if not by_site.shape[1]:
        return 1.0
    own, together = float(by_site.var(axis=0).sum()), float(by_site.sum(axis=1).var())
    return math.sqrt(own / together) if together > own else 1.0


def _evidence(
    by_site: Evidence, sites: _Sites, power: Sequence[float]
) -> Float64[np.ndarray, "batch 3"]:
    """Return ``ln`` of the evidence of both kinds of terms together, the first, and the others.

    Evidence is multiplied over the sites affected, for every share of them, and averaged.
    """
    some = np.logaddexp(_LOG_OTHERS, by_site + _LOG_SHARES)
    told = np.empty((len(AFFECTED), len(by_site), 3))
    for kind, (own, shared) in enumerate(
        zip(sites.split(by_site), sites.split(some), strict=True), 1
    ):
        shared.sum(axis=2, out=told[:-1, :, kind])
        np.multiply(own.sum(axis=1), power[kind - 1], out=told[-1, :, kind])
    together = np.logaddexp.reduce(told[:, :, 1:], axis=0) - math.log(len(AFFECTED))
    both = np.logaddexp.reduce(together + _LOG_PRIORS, axis=1)
    told[0, :, 1:] = together
    told[0, :, 0] = both if sites.of_mechanism else together[:, 1]
    return np.where(told[0] > 1e-3 * _MOST_BITS, np.inf, told[0])


_SHARES: Final = np.array(AFFECTED[:-1])[:, None, None]
_LOG_SHARES: Final = np.log(_SHARES)
_LOG_OTHERS: Final = np.log1p(-_SHARES)
_LOG_PRIORS: Final = np.array([math.log(MECHANISM_PRIOR), math.log1p(-MECHANISM_PRIOR)])
