"""What a kept sample of trusted sets says: sizes, pairs, averages; and sets as an activity."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.codes.base import Code
from mad.codes.statistics import KeptSets
from mad.types import Activity, Bits

AVERAGED = 500
"""Kept sets over which the average of a contribution is taken where no closed form is known."""

_CHUNK = 64


def evenly(kept: KeptSets, *, most: int) -> KeptSets:
    """Return at most this many of the sample, evenly spaced; it was drawn at random already."""
    if len(kept) <= most:
        return kept
    return chosen(kept, torch.linspace(0, len(kept) - 1, most, dtype=torch.float64).long())


def chosen(kept: KeptSets, places: Int64[Tensor, " chosen"]) -> KeptSets:
    """Return the kept sets at some places of the sample, ascending."""
    is_chosen = torch.zeros(len(kept), dtype=torch.bool)
    is_chosen[places] = True
    counts = kept.offsets.diff()[places]
    return KeptSets(
        rows=kept.rows[places],
        context=kept.context[places],
        offsets=functional.pad(counts.cumsum(dim=0), (1, 0)),
        components=kept.components[is_chosen[kept.owners]],
        num_components=kept.num_components,
    )


def as_activity(kept: KeptSets) -> Activity:
    """Return the sets as an activity with no residual, every magnitude one."""
    nothing = torch.empty(len(kept), 0)
    strengths = torch.ones(kept.components.numel())
    return Activity(kept.offsets, kept.components, strengths, nothing, nothing, kept.num_components)


def pair_counts(
    kept: KeptSets, components: Int64[Tensor, " frequent"]
) -> Float64[Tensor, "frequent frequent"]:
    """Return how many kept sets hold both of two components; on the diagonal, how many hold one."""
    size = components.numel()
    place = torch.full((kept.num_components,), size)
    place[components] = torch.arange(size)
    owners, places = kept.owners, place[kept.components]
    total = torch.zeros(size, size, dtype=torch.float64)
    for start in range(0, len(kept), 1024):
        own = (owners >= start) & (owners < start + 1024)
        # One column more for whatever is not asked about. Float32 counts exactly up to 2 ** 24.
        active = torch.zeros(min(1024, len(kept) - start), size + 1)
        active[owners[own] - start, places[own]] = 1.0
        total += active[:, :-1].T @ active[:, :-1]
    return total


def most_used(
    active: Int64[Tensor, " component"], *, most: int, above: int
) -> Int64[Tensor, " frequent"]:
    """Return the components active in more than ``above`` inputs, the most used first."""
    order = active.argsort(descending=True, stable=True)[:most]
    return order[active[order] > above]


def size_bits(kept: KeptSets) -> Float64[Tensor, " sizes"]:
    """Return the bits of each size of a set, none to all: half a pseudo-count each."""
    sizes = kept.num_components + 1
    counts = kept.offsets.diff().bincount(minlength=sizes).double() + 0.5
    return counts.sum().log2() - counts.log2()


def is_active(activity: Activity) -> Bool[Tensor, "batch component"]:
    """Return the active sets as rows of truth values: for explanations, never for scoring."""
    active = torch.zeros(len(activity), activity.num_components, dtype=torch.bool)
    active[activity.rows, activity.components] = True
    return active


def shared_evenly(
    bits: Bits, active: Bool[Tensor, "batch component"]
) -> Float64[Tensor, "batch component"]:
    """Share each input's bits evenly over its active components, or over all when none is."""
    sharing = active | ~active.any(dim=1, keepdim=True)
    return sharing * (bits / sharing.sum(dim=1)).unsqueeze(1)


def mean_contributions(code: Code, kept: KeptSets) -> Float64[Tensor, " component"]:
    """Return the average of each contribution over at most AVERAGED of the kept sets."""
    sample = evenly(kept, most=AVERAGED)
    total = torch.zeros(kept.num_components, dtype=torch.float64)
    for places in torch.arange(len(sample)).split(_CHUNK):
        part = chosen(sample, places)
        total += code.contributions(as_activity(part), part.context).sum(dim=0)
    return total / max(len(sample), 1)
