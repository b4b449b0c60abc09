"""Which components of all layers go together: one part of the ledger for views that split a model.

Layers of a parameter decomposition are views of their own, so no code of one view sees two
mechanisms of different layers. And codes of whole sets describe them by what is usual in each of
some clusters, where one odd pair among many rare ones costs no more than those do.
"""

from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.accounting import CodedPart
from mad.codes.pairs import Origins
from mad.codes.sets.samples import as_activity, most_used, pair_counts
from mad.codes.sets.worst_pair import MAX_IN_PAIRS, WorstPairCode
from mad.codes.statistics import KeptSets, SetCounts
from mad.fit.statistics import SiteStatistics
from mad.types import PAIRS, View

TWINS: Final = 0.9
"""Correlation from which on two components count as one: pieces of consecutive matrices that are
one mechanism always go together, and whatever is odd with one is as odd with the other."""


def pairs_part(statistics: Mapping[View, SiteStatistics]) -> CodedPart | None:
    """Fit a code of the worst pair to the components of several views; None where there are none.

    Of the most used ones, those that go with an earlier one on trusted inputs are left out.
    """
    every = _every(statistics)
    if not every.index.numel():
        return None
    sets, counts = _together(every, statistics)
    used = most_used(counts.active.sum(dim=0), most=MAX_IN_PAIRS, above=0).sort().values
    kept = used[_without_twins(pair_counts(sets, used), len(sets))]
    origins = Origins(every.views, every.view[kept], every.index[kept])
    return CodedPart(
        PAIRS, "set", WorstPairCode.fit(*_together(origins, statistics)), origins=origins
    )


def _every(statistics: Mapping[View, SiteStatistics]) -> Origins:
    widths = torch.tensor([one.counts.active.shape[1] for one in statistics.values()])
    view = torch.repeat_interleave(torch.arange(len(widths)), widths)
    first = functional.pad(widths.cumsum(dim=0), (1, 0))
    return Origins(tuple(statistics), view, torch.arange(len(view)) - first[view])


def _together(
    origins: Origins, statistics: Mapping[View, SiteStatistics]
) -> tuple[KeptSets, SetCounts]:
    """Return the sets kept, which are of the same inputs in every view, and counts over all."""
    own = {view: one.sets for view, one in statistics.items()}
    first = next(iter(own.values()))
    joint = origins.of({view: as_activity(sets) for view, sets in own.items()})
    sets = KeptSets(
        first.rows, first.context, joint.offsets, joint.components, joint.num_components
    )
    counts = [one.counts for one in statistics.values()]
    active = torch.stack(
        [
            counts[view].active[:, index]
            for view, index in zip(origins.view.tolist(), origins.index.tolist(), strict=True)
        ],
        dim=1,
    )
    return sets, SetCounts(counts[0].contexts, counts[0].inputs, active)


def _without_twins(
    both: Float64[Tensor, "component component"], inputs: int
) -> Int64[Tensor, " kept"]:
    """Return components that go with none before them."""
    rate = both.diagonal() / inputs
    spread = (rate * (1 - rate)).sqrt().clamp_min(1e-12)
    alike = (both / inputs - rate.outer(rate)) / spread.outer(spread) >= TWINS
    kept: list[int] = []
    for place, own in enumerate(alike):
        if not own[kept].any():
            kept.append(place)
    return torch.tensor(kept, dtype=torch.int64)
