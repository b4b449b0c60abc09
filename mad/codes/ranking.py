"""Which charges an explanation names first."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor


def telling(
    excess: Float64[Tensor, " charge"],
    part: Int64[Tensor, " charge"],
    rarity: Float64[Tensor, " part"],
) -> Float64[Tensor, " charge"]:
    """Return the bits of rarity that each charge accounts for.

    ``excess`` is what each charge is above its typical bits, ``part`` the part of the ledger it
    belongs to, and ``rarity`` how rare that part's length is, in bits. A charge accounts for a
    share of its part's rarity: its share of what the part's charges are above typical. So a part
    whose length is ordinary names nothing before one whose length is rare, however many charges
    it has and however widely each of them spreads by itself. No charge accounts for more than it
    is above typical: lengths that hardly vary in trusted data make a few bits more look rarer than
    bits can tell.
    """
    told = excess.clamp(-_INFINITE, _INFINITE)
    above = torch.zeros_like(rarity).index_add(0, part, told.clamp_min(0.0))
    return told * (rarity / above.clamp_min(_TINY)).clamp_max(1.0)[part]


def most_telling(
    told: Float64[Tensor, " charge"],
    part: Int64[Tensor, " charge"],
    *,
    leading: Int64[Tensor, " charge"],
    naming: Bool[Tensor, " part"],
    limit: int,
) -> Int64[Tensor, " chosen"]:
    """Return the charges that account for most of the rarity, at most ``limit``, the first first.

    ``told`` is what each accounts for, in bits, and ``part`` the part of the ledger it belongs to.
    A part with a single charge, such as a neighbourhood, names no component; its charge comes after
    those that do, and keeps a place where there are eight. What ``leading`` charges have above
    typical comes before all else, that of those which lead by more first: an alert must say what it
    was raised for, and a rest that nothing explains can have more bits than every component. For
    the same reason charges of ``naming`` parts, those of components, that are above typical keep
    two places in eight.
    """
    is_alone = part.bincount(minlength=len(naming))[part] == 1
    order = torch.argsort(told, descending=True, stable=True)
    leads = (leading * (told > 0))[order]
    order = order[torch.argsort(leads, descending=True, stable=True)]
    alone = order[is_alone[order]][: limit // 8]
    rest = order[~is_alone[order]]
    named = (naming[part] & (told > 0))[rest]
    named = named.nonzero().squeeze(1)[: 2 * (limit // 8)]
    return torch.cat([rest[_first(named, len(rest), limit - len(alone))], alone])


def _first(kept: Int64[Tensor, " kept"], total: int, count: int) -> Int64[Tensor, " chosen"]:
    """Return so many places of all, the first that there are, but never without the kept."""
    others = torch.ones(total, dtype=torch.bool).index_fill(0, kept, value=False)
    others = others.nonzero().squeeze(1)
    return torch.cat([kept, others[: count - len(kept)]]).sort().values


_INFINITE = 1e18
"""Stands for bits without end, so that they can still be shared."""

_TINY = 1e-300
