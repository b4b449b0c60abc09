"""Weigh the parts of a ledger: code lengths in, bits of rarity of the whole out."""

import math
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.calibration.rarity import Rarity
from mad.types import MECHANISM_TERMS, Bits, Ledger, Weighed, site_of

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
        mechanism, novelty = _by_site(parts.bits(columns), place, of_mechanism)
        power = torch.stack([_repeated(mechanism), _repeated(novelty)])
        evidence = _evidence(mechanism, novelty, power)
        return Weighing(parts, Rarity.fit(evidence), place, of_mechanism, power)

    def weigh(self, ledger: Ledger) -> Weighed:
        """Return how rare each input's lengths are; infinite lengths are infinitely rare."""
        rarity = self.parts.bits(_columns(ledger))
        mechanism, novelty = _by_site(rarity, self.place, self.of_mechanism)
        totals = self.totals.bits(_evidence(mechanism, novelty, self.power))
        return Weighed(rarity[:, : len(ledger.keys)], *totals.T.contiguous().unbind())

    @property
    def mechanism(self) -> "Weighing":
        """The same for ledgers of the mechanism's parts alone, in the same order.

        Law: their mechanism weighs what it weighs in the whole ledger. The other totals are those
        of an input whose other parts are no evidence of anything, which is not what they were.
        """
        own = self.of_mechanism
        return replace(self, parts=self.parts.of(own), place=self.place[own], of_mechanism=own[own])


def _is_combined(ledger: Ledger) -> Bool[Tensor, " part"]:
    """Say which parts split into components and their combination."""
    return ~ledger.marginal[0].isnan()


def _columns(ledger: Ledger) -> Float64[Tensor, "batch column"]:
    combined = _is_combined(ledger)
    combination = ledger.bits[:, combined] - ledger.marginal[:, combined]
    return torch.cat([ledger.bits, combination], dim=1)


def _layout(ledger: Ledger) -> tuple[Int64[Tensor, " column"], Bool[Tensor, " column"]]:
    """Return the site of each column, whatever its view, and whether it is of the mechanism."""
    captured = [site_of(view) for view, _ in ledger.keys]
    sites = list(dict.fromkeys(captured))
    place = torch.tensor([sites.index(site) for site in captured], dtype=torch.int64)
    of_mechanism = torch.tensor([term in MECHANISM_TERMS for _, term in ledger.keys])
    combined = _is_combined(ledger)
    return torch.cat([place, place[combined]]), torch.cat([of_mechanism, of_mechanism[combined]])


Evidence: TypeAlias = Float64[Tensor, "batch _"]
"""``ln`` of the evidence of each site that has such parts."""


def _by_site(
    rarity: Float64[Tensor, "batch column"],
    place: Int64[Tensor, " column"],
    of_mechanism: Bool[Tensor, " column"],
) -> tuple[Evidence, Evidence]:
    """Average the evidence of each site's parts: of the mechanism's, and of the others."""
    finite = rarity.clamp_max(_MOST_BITS)
    each = math.log(CALIBRATOR) + (1 - CALIBRATOR) * math.log(2) * finite
    return (
        _averaged(each[:, of_mechanism], place[of_mechanism]),
        _averaged(each[:, ~of_mechanism], place[~of_mechanism]),
    )


_MOST_BITS: Final = 1e12
"""Stands for an infinite rarity where rarities are averaged."""


def _averaged(each: Float64[Tensor, "batch column"], place: Int64[Tensor, " column"]) -> Evidence:
    sites, own, columns = place.unique(return_inverse=True, return_counts=True)
    # All sites at once: a call a site takes longer than the arithmetic.
    largest = each.new_zeros(each.shape[0], sites.numel()).scatter_reduce(
        1, own.expand_as(each), each, "amax", include_self=False
    )
    total = torch.zeros_like(largest).index_add(1, own, (each - largest[:, own]).exp())
    averaged: Evidence = largest + (total / columns).log()
    return averaged


def _repeated(by_site: Evidence) -> Float64[Tensor, ""]:
    """Return the power that undoes what sites repeat of each other, at most one."""
    if not by_site.shape[1]:
        return by_site.new_ones(())
    own = by_site.var(dim=0, correction=0).sum()
    together = by_site.sum(dim=1).var(correction=0)
    return torch.where(together > own, (own / together.clamp_min(1e-300)).sqrt(), 1.0)


def _evidence(
    mechanism: Evidence, novelty: Evidence, power: Float64[Tensor, " 2"]
) -> Float64[Tensor, "batch 3"]:
    """Return ``ln`` of the evidence of both kinds of terms together, the first, and the others."""
    of_mechanism, of_novelty = _together(mechanism, power[0]), _together(novelty, power[1])
    both = torch.logaddexp(
        of_mechanism + math.log(MECHANISM_PRIOR), of_novelty + math.log1p(-MECHANISM_PRIOR)
    )
    surprise = both if mechanism.shape[1] else of_novelty
    told = torch.stack([surprise, of_mechanism, of_novelty], dim=1)
    return torch.where(told > 1e-3 * _MOST_BITS, torch.inf, told)


def _together(by_site: Evidence, power: Float64[Tensor, ""]) -> Bits:
    """Multiply evidence over the sites affected, for every share of them, and average."""
    if not by_site.shape[1]:
        return by_site.new_zeros(by_site.shape[0])
    some = [
        torch.logaddexp(by_site.new_tensor(math.log1p(-share)), by_site + math.log(share))
        for share in AFFECTED[:-1]
    ]
    shares = [*(one.sum(dim=1) for one in some), power * by_site.sum(dim=1)]
    return torch.logsumexp(torch.stack(shares), dim=0) - math.log(len(AFFECTED))
