"""Keep the books: activity of every site in, ledger and explanations out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.base import Code, SetCode
from mad.codes.neighbours import NeighbourCode
from mad.types import Activity, Charge, Context, Explanation, Ledger, Site, Term


@final
@dataclass(frozen=True)
class CodedPart:
    """One term at one site, and the code that describes it."""

    site: Site
    term: Term
    code: Code


def ledger(
    parts: Sequence[CodedPart], activity: Mapping[Site, Activity], context: Context
) -> Ledger:
    """Return the bits of every part for every input.

    An activity that is not a number, as when the model itself broke down, costs infinitely many.
    """
    bits = torch.stack([part.code.lengths(activity[part.site], context) for part in parts], dim=1)
    keys = tuple((part.site, part.term) for part in parts)
    return Ledger(keys, bits.nan_to_num(nan=torch.inf, posinf=torch.inf))


def explain(
    parts: Sequence[CodedPart],
    activity: Mapping[Site, Activity],
    context: Context,
    *,
    max_charges: int,
) -> Explanation:
    """Split the surprise of one input over components, coordinates and neighbourhoods.

    The charges furthest above what they typically are come first, with as many places for each
    term, so that the many coordinates of a residual do not crowd out the components.
    """
    charged = [part.code.contributions(activity[part.site], context)[0] for part in parts]
    bits = torch.cat(charged).nan_to_num(nan=torch.inf, posinf=torch.inf)
    typical = torch.cat([part.code.typical(context)[0] for part in parts])
    terms = [part.term for part in parts]
    term = torch.cat(
        [torch.full((len(own),), terms.index(t)) for t, own in zip(terms, charged, strict=True)]
    )
    chosen = _furthest(bits - typical, term, max_charges, places=max_charges // len(set(terms)))
    ends = torch.tensor([share.numel() for share in charged]).cumsum(dim=0)
    charges = []
    for place in chosen.tolist():
        number = int(torch.searchsorted(ends, place, right=True))
        part, index = parts[number], place - int(ends[number] - charged[number].numel())
        shown, magnitude, rate = _shown(part, activity[part.site], context, index)
        cost = (float(bits[place]), float(typical[place]))
        charges.append(Charge(part.site, part.term, shown, *cost, magnitude, rate))
    rest = bits.index_fill(0, chosen, 0.0)
    return Explanation(tuple(charges), float(rest.sum()))


def _furthest(
    excess: Float64[Tensor, " index"], term: Int64[Tensor, " index"], limit: int, *, places: int
) -> Int64[Tensor, " chosen"]:
    """Return the largest of all, once each term has its first few; largest first."""
    order = excess.argsort(descending=True, stable=True)
    of_term = functional.one_hot(term[order])
    earlier = (of_term.cumsum(dim=0) * of_term).sum(dim=1) - 1
    kept = torch.cat([order[earlier < places], order[earlier >= places]])[:limit]
    return kept[excess[kept].argsort(descending=True, stable=True)]


def _shown(
    part: CodedPart, activity: Activity, context: Context, index: int
) -> tuple[int, float, float | None]:
    """Return the index people know it by, the magnitude and, for a component, its trusted rate."""
    if isinstance(part.code, NeighbourCode):
        row, cosine = part.code.nearest(activity)
        return row, cosine, None
    if isinstance(part.code, SetCode):
        strength = activity.magnitudes[activity.components == index].sum()
        return index, float(strength), float(part.code.rates(context)[0, index])
    return index, float(activity.residual[0, index]), None
