"""Weigh the parts of a ledger: code lengths in, bits of rarity of the whole out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.calibration.rarity import Rarity
from mad.types import MECHANISM_TERMS, Bits, Ledger, Site, Term, Weighed

AFFECTED: Final = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of sites that an anomaly may show at, each as likely as the others."""

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
    of a site, which may each be blind, and multiplied over sites: ``prod (1 - a + a evidence)``,
    averaged over the shares ``a`` of ``AFFECTED``, so that one loud site or many faint ones count.
    The mechanism's terms and the others are taken together first by themselves, then averaged by
    ``MECHANISM_PRIOR``. Each of the three is told as a rarity again: ``totals``.

    Part ``i`` is of site ``place[i]``.
    """

    parts: Rarity
    totals: Rarity
    place: Int64[Tensor, " part"]
    of_mechanism: Bool[Tensor, " part"]

    @staticmethod
    def fit(ledger: Ledger) -> "Weighing":
        """Count how rare lengths are. ConfigError if a part is infinite for every input."""
        place, of_mechanism = _layout(ledger.keys)
        parts = Rarity.fit(ledger.bits)
        evidence = _evidence(parts.bits(ledger.bits), place, of_mechanism)
        return Weighing(parts, Rarity.fit(evidence), place, of_mechanism)

    def weigh(self, ledger: Ledger) -> Weighed:
        """Return how rare each input's lengths are; infinite lengths are infinitely rare."""
        rarity = self.parts.bits(ledger.bits)
        totals = self.totals.bits(_evidence(rarity, self.place, self.of_mechanism))
        return Weighed(rarity, *totals.T.contiguous().unbind())


def _layout(
    keys: Sequence[tuple[Site, Term]],
) -> tuple[Int64[Tensor, " part"], Bool[Tensor, " part"]]:
    sites = list(dict.fromkeys(site for site, _ in keys))
    place = torch.tensor([sites.index(site) for site, _ in keys], dtype=torch.int64)
    return place, torch.tensor([term in MECHANISM_TERMS for _, term in keys])


def _evidence(
    rarity: Float64[Tensor, "batch part"],
    place: Int64[Tensor, " part"],
    of_mechanism: Bool[Tensor, " part"],
) -> Float64[Tensor, "batch 3"]:
    """Return ``ln`` of the evidence of both kinds of terms together, the first, and the others."""
    finite = rarity.clamp_max(_MOST_BITS)
    mechanism = _together(finite[:, of_mechanism], place[of_mechanism])
    novelty = _together(finite[:, ~of_mechanism], place[~of_mechanism])
    both = torch.logaddexp(
        mechanism + math.log(MECHANISM_PRIOR), novelty + math.log1p(-MECHANISM_PRIOR)
    )
    surprise = both if of_mechanism.any() else novelty
    told = torch.stack([surprise, mechanism, novelty], dim=1)
    return torch.where(told > math.log(2) * _MOST_BITS / 4, torch.inf, told)


_MOST_BITS: Final = 1e12
"""Stands for an infinite rarity where rarities are averaged."""


def _together(rarity: Float64[Tensor, "batch part"], place: Int64[Tensor, " part"]) -> Bits:
    """Average the evidence of each site's parts and multiply it over the sites affected."""
    each = math.log(CALIBRATOR) + (1 - CALIBRATOR) * math.log(2) * rarity
    sites = [
        torch.logsumexp(each[:, place == site], dim=1) - math.log(int((place == site).sum()))
        for site in place.unique()
    ]
    if not sites:
        return each.new_zeros(each.shape[0])
    by_site = torch.stack(sites)
    shares = [
        by_site.sum(dim=0)
        if share == 1
        else torch.logaddexp(by_site.new_tensor(math.log1p(-share)), by_site + math.log(share)).sum(
            dim=0
        )
        for share in AFFECTED
    ]
    return torch.logsumexp(torch.stack(shares), dim=0) - math.log(len(AFFECTED))
