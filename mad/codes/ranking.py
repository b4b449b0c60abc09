"""Which charges an explanation names first."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def most_telling(
    excess: Float64[Tensor, " charge"],
    part: Int64[Tensor, " charge"],
    rarity: Float64[Tensor, " part"],
    *,
    limit: int,
) -> Int64[Tensor, " chosen"]:
    """Return the charges that account for most of the rarity, at most ``limit``, the first first.

    ``excess`` is what each charge is above its typical bits, ``part`` the part of the ledger it
    belongs to, and ``rarity`` how rare that part's length is, in bits. A charge accounts for a
    share of its part's rarity: its share of what the part's charges are above typical. So a part
    whose length is ordinary names nothing before one whose length is rare, however many charges
    it has and however widely each of them spreads by itself. A part with a single charge, such as
    a neighbourhood, names no component; its charge comes after those that do, and keeps a place.
    """
    telling = _shares(excess, part, len(rarity)) * rarity[part].nan_to_num(posinf=_INFINITE)
    is_alone = part.bincount(minlength=len(rarity))[part] == 1
    order = torch.argsort(telling, descending=True, stable=True)
    alone = order[is_alone[order]][: limit // 2]
    return torch.cat([order[~is_alone[order]][: limit - len(alone)], alone])


_INFINITE = 1e18
"""Stands for a rarity that is infinite: above all others, and still to be shared."""


def _shares(
    excess: Float64[Tensor, " charge"], part: Int64[Tensor, " charge"], parts: int
) -> Float64[Tensor, " charge"]:
    """Return each charge's share of its part's excess; what is below typical has a negative one."""
    finite = excess.clamp(-_INFINITE, _INFINITE)
    whole = torch.zeros(parts, dtype=torch.float64).index_add(0, part, finite.clamp_min(0.0))
    return finite / torch.where(whole > 0, whole, 1.0)[part]
