"""What active sets cost together with the ranks of what is active: an accounting in, rows out.

Minimality of a parameter decomposition is a description length (APD, arXiv:2501.14926, appendix on
losses): each active component costs its rank, ``rank_bits`` a rank, and ``log2 C`` bits to name it
among ``C``. Naming all as if they were equally likely is a code too, but a poor one: what the code
of sets that was fitted on trusted data takes stands in its place.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from mad.report.accounting import Accounting, SiteAccount
from mad.types import Site

COLUMNS: Final = (
    "site",
    "active",
    "set bits",
    "as if uniform",
    "with ranks",
    "as if uniform, with ranks",
)


@final
@dataclass(frozen=True)
class RankedSets:
    """Mean bits of an input's active set at one site, of components of rank one.

    Latents and subcomponents are of rank one; ``rank_bits`` is what one costs beyond its name.
    """

    site: Site
    active: float
    set_bits: float
    uniform_bits: float
    rank_bits: float

    @property
    def total_bits(self) -> float:
        """Ranks, and the fitted code of the set."""
        return self.rank_bits * self.active + self.set_bits

    @property
    def uniform_total_bits(self) -> float:
        """Ranks, and names of one length: the published measure."""
        return self.rank_bits * self.active + self.uniform_bits


def ranked(account: SiteAccount, *, rank_bits: float) -> RankedSets:
    """Count the ranks of one site's account."""
    names = account.active * math.log2(account.components) if account.components > 1 else 0.0
    return RankedSets(account.site, account.active, account.set.mean_bits, names, rank_bits)


def rows(accounting: Accounting, vocabulary: str, *, rank_bits: float) -> Iterator[tuple[str, ...]]:
    """Return one row a site, in the order of ``COLUMNS``."""
    for account in accounting.of(vocabulary):
        one = ranked(account, rank_bits=rank_bits)
        yield (
            one.site,
            f"{one.active:.1f}",
            f"{one.set_bits:.1f}",
            f"{one.uniform_bits:.1f}",
            f"{one.total_bits:.1f}",
            f"{one.uniform_total_bits:.1f}",
        )
