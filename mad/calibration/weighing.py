"""Weigh the parts of a ledger: code lengths in, bits of rarity of the whole out."""

import math
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.calibration.rarity import Rarity
from mad.types import MECHANISM_TERMS, Bits, Ledger, Weighed

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

    Of an active set both the whole length and that of the rare combination alone are evidence, as
    either is the better where sets vary in size or do not. So ``parts`` has a column for each part
    of the ledger and then one for each combination; column ``i`` is of site ``place[i]``.
    """

    parts: Rarity
    totals: Rarity
    place: Int64[Tensor, " column"]
    of_mechanism: Bool[Tensor, " column"]

    @staticmethod
    def fit(ledger: Ledger) -> "Weighing":
        """Count how rare lengths are. ConfigError if a part is infinite for every input."""
        place, of_mechanism = _layout(ledger)
        columns = _columns(ledger)
        # A part that hardly varies among trusted inputs would else become a cliff: one more bit of
        # length is never more than one of rarity.
        parts = Rarity.fit(columns, least_scale=1 / math.log(2))
        evidence = _evidence(parts.bits(columns), place, of_mechanism)
        return Weighing(parts, Rarity.fit(evidence), place, of_mechanism)

    def weigh(self, ledger: Ledger) -> Weighed:
        """Return how rare each input's lengths are; infinite lengths are infinitely rare."""
        rarity = self.parts.bits(_columns(ledger))
        totals = self.totals.bits(_evidence(rarity, self.place, self.of_mechanism))
        return Weighed(rarity[:, : len(ledger.keys)], *totals.T.contiguous().unbind())


def _is_combined(ledger: Ledger) -> Bool[Tensor, " part"]:
    """Say which parts split into components and their combination."""
    return ~ledger.marginal[0].isnan()


def _columns(ledger: Ledger) -> Float64[Tensor, "batch column"]:
    combined = _is_combined(ledger)
    combination = ledger.bits[:, combined] - ledger.marginal[:, combined]
    return torch.cat([ledger.bits, combination.nan_to_num(nan=torch.inf)], dim=1)


def _layout(ledger: Ledger) -> tuple[Int64[Tensor, " column"], Bool[Tensor, " column"]]:
    sites = list(dict.fromkeys(site for site, _ in ledger.keys))
    place = torch.tensor([sites.index(site) for site, _ in ledger.keys], dtype=torch.int64)
    of_mechanism = torch.tensor([term in MECHANISM_TERMS for _, term in ledger.keys])
    combined = _is_combined(ledger)
    return torch.cat([place, place[combined]]), torch.cat([of_mechanism, of_mechanism[combined]])


def _evidence(
    rarity: Float64[Tensor, "batch column"],
    place: Int64[Tensor, " column"],
    of_mechanism: Bool[Tensor, " column"],
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


def _together(rarity: Float64[Tensor, "batch column"], place: Int64[Tensor, " column"]) -> Bits:
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
