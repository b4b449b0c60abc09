"""How many bits describe what layers write in terms of a decomposition, and with none at all.

Held-out trusted inputs are described by codes fitted to others, every layer on one grid of its own,
so that decompositions of one model compare, whatever they leave over.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.codes.residual import RELATIVE_RESOLUTION
from mad.components.base import Decomposition
from mad.components.unexplained import left_over
from mad.fit import Split
from mad.fit.description import activity_bits
from mad.types import Activity, Dataset, View

SEEN, NEW = 6_000, 3_000
"""Inputs that codes are fitted to, and that are described, at most."""


def described(
    model: MonitoredModel, decompositions: Sequence[Decomposition], data: Dataset, rows: Split
) -> tuple[tuple[float, ...], float]:
    """Return the mean bits of an input with each one's components, and without any.

    All have the same views. Codes are fitted to inputs of the fitting part, and describe inputs of
    the weighing part.
    """
    parts = rows.fitting[:SEEN], rows.weighing[:NEW]
    seen, new = ([_activity(model, one, data, part) for one in decompositions] for part in parts)
    used = tuple(
        sum(_with(one, view, told[view], held[view]) for view in one.views)
        for one, told, held in zip(decompositions, seen, new, strict=True)
    )
    return used, sum(_without(seen[0][view], new[0][view]) for view in decompositions[0].views)


def _with(decomposition: Decomposition, view: View, seen: Activity, new: Activity) -> float:
    places = torch.arange(seen.num_components)
    unit = decomposition.directions(view, places).double().norm(dim=1)
    return float(activity_bits(seen, new, unit, step=_step(seen)).mean())


def _without(seen: Activity, new: Activity) -> float:
    none = torch.zeros(0, dtype=torch.float64)
    bare, bare_new = (left_over(part.activation) for part in (seen, new))
    return float(activity_bits(bare, bare_new, none, step=_step(seen)).mean())


def _activity(
    model: MonitoredModel, decomposition: Decomposition, data: Dataset, rows: Int64[Tensor, " row"]
) -> Mapping[View, Activity]:
    run = capture(model, decomposition.sites, data.take(rows))
    with torch.no_grad():
        return decomposition.activity(run.activations)


def _step(activity: Activity) -> float:
    away = activity.activation.double() - activity.activation.double().mean(dim=0)
    return RELATIVE_RESOLUTION * float(away.square().mean().sqrt().clamp_min(1e-12))
