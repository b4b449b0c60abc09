"""Keep the books: activity of every site in, ledger and explanations out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch

from mad.codes.base import Code, SetCode
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
    """Split the surprise of one input over components and coordinates.

    The charges furthest above what they typically are come first.
    """
    charged = [part.code.contributions(activity[part.site], context)[0] for part in parts]
    bits = torch.cat(charged).nan_to_num(nan=torch.inf, posinf=torch.inf)
    typical = torch.cat([part.code.typical(context)[0] for part in parts])
    chosen = (bits - typical).topk(min(max_charges, bits.numel())).indices
    ends = torch.tensor([share.numel() for share in charged]).cumsum(dim=0)
    charges = []
    for place in chosen.tolist():
        number = int(torch.searchsorted(ends, place, right=True))
        part, index = parts[number], place - int(ends[number] - charged[number].numel())
        magnitude, rate = _shown(part, activity[part.site], context, index)
        cost = (float(bits[place]), float(typical[place]))
        charges.append(Charge(part.site, part.term, index, *cost, magnitude, rate))
    rest = bits.index_fill(0, chosen, 0.0)
    return Explanation(tuple(charges), float(rest.sum()))


def _shown(
    part: CodedPart, activity: Activity, context: Context, index: int
) -> tuple[float, float | None]:
    """Return the magnitude and, for a component, its trusted rate."""
    if isinstance(part.code, SetCode):
        strength = activity.magnitudes[activity.components == index].sum()
        return float(strength), float(part.code.rates(context)[0, index])
    return float(activity.residual[0, index]), None
