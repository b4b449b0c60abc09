"""Keep the books: activity of every site in, ledger and explanations out."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.codes.base import Code, SetCode
from mad.codes.neighbours import NeighbourCode
from mad.codes.pairs import Origins, put_together
from mad.codes.ranking import most_telling, telling
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.nearest import NearestSetsCode
from mad.codes.together import Together, joint_of
from mad.types import (
    MECHANISM_TERMS,
    Activity,
    Charge,
    Context,
    Explanation,
    Ledger,
    Site,
    Term,
)

CONTEXTS_KEPT = 64
"""Contexts of which explanations remember what is usual."""


@final
@dataclass(frozen=True)
class CodedPart:
    """One term at one site, and the code that describes it.

    ``marginal`` codes the same active sets as independent components, and ``memory`` has trusted
    ones to show beside them; both are None for other terms. ``origins`` says what the components of
    a part of several views are, whose site is ``PAIRS``; it is None for all others.
    """

    site: Site
    term: Term
    code: Code
    marginal: IndependentCode | None = None
    memory: NearestSetsCode | None = None
    origins: Origins | None = None

    def usual(self, context: int) -> "Usual":
        """Return what trusted inputs of a context usually are, kept for the contexts met last."""
        found = self._usual.pop(context, None)
        if found is None:
            own = torch.tensor([context])
            rates = self.code.rates(own)[0] if isinstance(self.code, SetCode) else None
            found = Usual(self.code.typical(own)[0], rates)
        self._usual[context] = found
        while len(self._usual) > CONTEXTS_KEPT:
            del self._usual[next(iter(self._usual))]
        return found

    @cached_property
    def _usual(self) -> "dict[int, Usual]":
        return {}


@final
@dataclass(frozen=True)
class Usual:
    """What each charge typically is in one context, and how often each component is used there.

    No ``rates`` where there is nothing to use.
    """

    typical: Float64[Tensor, " index"]
    rates: Float64[Tensor, " index"] | None


@final
@dataclass(frozen=True)
class Books:
    """The parts of a ledger, and what they are charged by: codes that add up, all together.

    The codes of ``together``, if any adds up, have these ``columns`` of the bits and marginals, one
    after the other; those of the parts ``alone`` are asked one by one.
    """

    parts: tuple[CodedPart, ...]
    together: Together | None
    columns: Int64[np.ndarray, " code"]
    alone: tuple[int, ...]

    @staticmethod
    def of(parts: Sequence[CodedPart]) -> "Books":
        """Lay out the tables of codes that add up, which takes a copy of them."""
        views = list(dict.fromkeys(part.site for part in parts))
        added = [at for at, part in enumerate(parts) if joint_of(part.code) is not None]
        split = [at for at, part in enumerate(parts) if part.marginal is not None]
        codes = [(parts[at].site, parts[at].code, at) for at in added]
        codes += [
            (parts[at].site, own, at + len(parts))
            for at in split
            if (own := parts[at].marginal) is not None
        ]
        codes.sort(key=lambda one: views.index(one[0]))
        columns = np.array([at for _, _, at in codes], dtype=np.int64)
        others = sorted(set(range(len(parts))) - set(added))
        # The largest tables come last: what they push out of the processor's caches, small ones
        # would have to fetch again.
        others.sort(key=lambda at: isinstance(parts[at].code, NeighbourCode))
        together = Together.of([(view, code) for view, code, _ in codes]) if codes else None
        return Books(tuple(parts), together, columns, tuple(others))

    @cached_property
    def keys(self) -> tuple[tuple[Site, Term], ...]:
        """The view and term of each part."""
        return tuple((part.site, part.term) for part in self.parts)

    def ledger(self, activity: Mapping[Site, Activity], context: Context) -> Ledger:
        """Return the bits of every part for every input.

        An activity that is not a number, as when the model itself broke down, costs infinitely
        many, in every part of its site: which components it seems to use means nothing.
        """
        activity = put_together(activity, [part.origins for part in self.parts])
        # Bits of parts, and then marginals, side by side.
        table = np.full((len(context), 2 * len(self.parts)), np.nan)
        if self.together is not None:
            table[:, self.columns] = self.together.lengths(activity, context)
        for at in self.alone:
            part = self.parts[at]
            table[:, at] = part.code.lengths(activity[part.site], context).numpy()
        bits = torch.from_numpy(table[:, : len(self.parts)])
        marginal = torch.from_numpy(table[:, len(self.parts) :])
        return Ledger(self.keys, _without_end(bits, self.parts), marginal)


def _without_end(
    bits: Float64[Tensor, "batch part"], parts: Sequence[CodedPart]
) -> Float64[Tensor, "batch part"]:
    """Let a part without a finite length make every part of the same site infinite."""
    is_finite = np.isfinite(bits.numpy())
    if is_finite.all():
        return bits
    shares = torch.tensor([[one.site == other.site for other in parts] for one in parts])
    spread = (~torch.from_numpy(is_finite)).double() @ shares.double()
    return bits.masked_fill(spread > 0, torch.inf)


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
    rarity: Float64[Tensor, "batch part"],
    leading: Bool[Tensor, " part"],
    max_charges: int,
) -> tuple[Explanation, ...]:
    """Split each input's description over components, coordinates and neighbourhoods.

    ``rarity`` says of each part how rare its length is, in bits; the charges that account for most
    of it come first, those of ``leading`` parts before others, and of eight two are of components.
    Before all come those of a part of several views where no leading part of one view is rarer: it
    sees together what each of these sees some of. Memory grows with inputs times components: for
    few inputs at a time.
    """
    activity = put_together(activity, [part.origins for part in parts])
    charged = [part.code.contributions(activity[part.site], context) for part in parts]
    bits = torch.cat(charged, dim=1).nan_to_num(nan=torch.inf, posinf=torch.inf)
    usual = {one: [part.usual(one) for part in parts] for one in context.unique().tolist()}
    typical = torch.stack(
        [torch.cat([part.typical for part in usual[one]]) for one in context.tolist()]
    )
    columns = _Columns.of(parts, [share.shape[1] for share in charged])
    chosen = [
        columns.most_telling(above, rare, leading=leading, limit=max_charges)
        for above, rare in zip(bits - typical, rarity, strict=True)
    ]
    bits, typical, number_of = columns.home(bits), columns.home(typical), columns.number_of
    explanations = []
    for row, (places, label) in enumerate(zip(chosen, context.tolist(), strict=True)):
        own = {site: one.row(row) for site, one in activity.items()}
        charges = []
        for place in places.tolist():
            number = int(number_of[place])
            part, index = parts[number], place - int(torch.searchsorted(number_of, number))
            cost = (float(bits[row, place]), float(typical[row, place]))
            charges.append(_charge(part, own[part.site], index, cost, usual[label][number].rates))
        rest = bits[row].index_fill(0, places, 0.0)
        nearest = {
            part.site: part.memory.nearest(own[part.site], count=1)[0]
            for part in parts
            if part.memory is not None
        }
        explanations.append(Explanation(tuple(charges), float(rest.sum()), nearest))
    return tuple(explanations)


def _charge(
    part: CodedPart,
    activity: Activity,
    index: int,
    cost: tuple[float, float],
    rates: Float64[Tensor, " index"] | None,
) -> Charge:
    """Return a charge by the index that people know, with its magnitude and trusted rate."""
    rate = None
    if isinstance(part.code, NeighbourCode):
        index, magnitude = part.code.nearest(activity)
    elif rates is not None:
        strength = activity.magnitudes[activity.components == index].sum()
        magnitude, rate = float(strength), float(rates[index])
    else:
        magnitude = float(activity.residual[0, index])
    return Charge(part.site, part.term, index, *cost, magnitude, rate)


@final
@dataclass(frozen=True)
class _Columns:
    """Charges side by side: of which part each is, and which charge it is told with.

    Those of a part of several views are told with what the set of its own view charges the same
    component, so that every component is charged once.
    """

    parts: tuple[CodedPart, ...]
    part: Int64[Tensor, " charge"]
    with_: Int64[Tensor, " charge"]

    @staticmethod
    def of(parts: Sequence[CodedPart], widths: Sequence[int]) -> "_Columns":
        """Lay out the charges of some parts, of each as many as its width."""
        starts = list(itertools.accumulate(widths, initial=0))
        sets = {
            one.site: start for one, start in zip(parts, starts, strict=False) if one.term == "set"
        }
        told = torch.arange(starts[-1])
        for part, start, width in zip(parts, starts, widths, strict=False):
            if part.origins is not None:
                own = torch.tensor([sets[view] for view in part.origins.views])
                told[start : start + width] = own[part.origins.view] + part.origins.index
        part_of = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(widths))
        return _Columns(tuple(parts), part_of, told)

    @property
    def number_of(self) -> Int64[Tensor, " told"]:
        """The part of each charge that is told."""
        return self.part[self._is_told]

    def home(self, values: Float64[Tensor, "batch charge"]) -> Float64[Tensor, "batch told"]:
        """Add up what is told together."""
        added = torch.zeros_like(values).index_add(1, self.with_, values)
        return added[:, self._is_told]

    def most_telling(
        self,
        excess: Float64[Tensor, " charge"],
        rarity: Float64[Tensor, " part"],
        *,
        leading: Bool[Tensor, " part"],
        limit: int,
    ) -> Int64[Tensor, " chosen"]:
        """Return the places among those told of what accounts for most of one input's rarity.

        Where a part of several views comes first, its components do in its own order.
        """
        told = telling(excess, self.part, rarity)
        of_several = torch.tensor([part.origins is not None for part in self.parts])
        others = rarity[leading & ~of_several]
        sees_most = leading & of_several & (rarity >= others.max()) if len(others) else leading
        first = sees_most[self.part] & (told > 0)
        leads = leading[self.part].long().index_fill(0, self.with_[first], 2)
        every = torch.zeros_like(told).index_add(0, self.with_, told)
        every[self.with_[first]] = told[first]
        return most_telling(
            every[self._is_told],
            self.number_of,
            leading=leads[self._is_told],
            naming=torch.tensor([part.term in MECHANISM_TERMS for part in self.parts]),
            limit=limit,
        )

    @property
    def _is_told(self) -> Bool[Tensor, " charge"]:
        return self.with_ == torch.arange(len(self.with_))
