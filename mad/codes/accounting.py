"""Keep the books: activity of every site in, ledger and explanations out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.codes.base import Code, SetCode
from mad.codes.neighbours import NeighbourCode
from mad.codes.ranking import most_telling
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.nearest import NearestSetsCode
from mad.types import Activity, Charge, Context, Explanation, Ledger, Site, Term


@final
@dataclass(frozen=True)
class CodedPart:
    """One term at one site, and the code that describes it.

    ``marginal`` codes the same active sets as independent components, and ``memory`` has trusted
    ones to show beside them; both are None for other terms.
    """

    site: Site
    term: Term
    code: Code
    marginal: IndependentCode | None = None
    memory: NearestSetsCode | None = None


def ledger(
    parts: Sequence[CodedPart], activity: Mapping[Site, Activity], context: Context
) -> Ledger:
    """Return the bits of every part for every input.

    An activity that is not a number, as when the model itself broke down, costs infinitely many,
    in every part of its site: which components it seems to use means nothing.
    """
    found = torch.stack([part.code.lengths(activity[part.site], context) for part in parts], dim=1)
    bits = _without_end(found.nan_to_num(nan=torch.inf, posinf=torch.inf), parts)
    nothing = torch.full((bits.shape[0],), torch.nan, dtype=torch.float64)
    marginal = [
        nothing if part.marginal is None else part.marginal.lengths(activity[part.site], context)
        for part in parts
    ]
    keys = tuple((part.site, part.term) for part in parts)
    return Ledger(keys, bits, torch.stack(marginal, dim=1))


def _without_end(
    bits: Float64[Tensor, "batch part"], parts: Sequence[CodedPart]
) -> Float64[Tensor, "batch part"]:
    """Let an infinite part make every part of the same site infinite."""
    is_infinite = bits.isinf()
    if not is_infinite.any():
        return bits
    shares = torch.tensor([[one.site == other.site for other in parts] for one in parts])
    return bits.masked_fill((is_infinite.double() @ shares.double()) > 0, torch.inf)


def joined(ledgers: Iterable[Ledger]) -> Ledger:
    """Return several ledgers of the same parts, at least one, as one."""
    every = tuple(ledgers)
    return Ledger(
        every[0].keys,
        torch.cat([one.bits for one in every]),
        torch.cat([one.marginal for one in every]),
    )


def explain(
    parts: Sequence[CodedPart],
    activity: Mapping[Site, Activity],
    context: Context,
    *,
    rarity: Float64[Tensor, " part"],
    max_charges: int,
) -> Explanation:
    """Split the description of one input over components, coordinates and neighbourhoods.

    ``rarity`` says of each part how rare its length is, in bits; the charges that account for most
    of it come first.
    """
    charged = [part.code.contributions(activity[part.site], context)[0] for part in parts]
    bits = torch.cat(charged).nan_to_num(nan=torch.inf, posinf=torch.inf)
    typical = torch.cat([part.code.typical(context)[0] for part in parts])
    sizes = torch.tensor([share.numel() for share in charged])
    number_of = torch.repeat_interleave(torch.arange(len(parts)), sizes)
    chosen = most_telling(bits - typical, number_of, rarity, limit=max_charges)
    starts = sizes.cumsum(dim=0) - sizes
    # A component's rate alone takes as long as those of all of its part.
    rates = {number: _rates(parts[number], context) for number in set(number_of[chosen].tolist())}
    charges = []
    for place in chosen.tolist():
        number = int(number_of[place])
        part, index = parts[number], place - int(starts[number])
        shown, magnitude, rate = _shown(part, activity[part.site], rates[number], index)
        cost = (float(bits[place]), float(typical[place]))
        charges.append(Charge(part.site, part.term, shown, *cost, magnitude, rate))
    rest = bits.index_fill(0, chosen, 0.0)
    nearest = {
        part.site: part.memory.nearest(activity[part.site], count=1)[0]
        for part in parts
        if part.memory is not None
    }
    return Explanation(tuple(charges), float(rest.sum()), nearest)


def _rates(part: CodedPart, context: Context) -> Float64[Tensor, " component"] | None:
    """Return how often trusted inputs use each component; None where there is none to use."""
    return part.code.rates(context)[0] if isinstance(part.code, SetCode) else None


def _shown(
    part: CodedPart, activity: Activity, rates: Float64[Tensor, " component"] | None, index: int
) -> tuple[int, float, float | None]:
    """Return the index people know it by, the magnitude and, for a component, its trusted rate."""
    if isinstance(part.code, NeighbourCode):
        row, cosine = part.code.nearest(activity)
        return row, cosine, None
    if rates is None:
        return index, float(activity.residual[0, index]), None
    strength = activity.magnitudes[activity.components == index].sum()
    return index, float(strength), float(rates[index])
