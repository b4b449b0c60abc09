"""How many bits describe what layers write in terms of a decomposition, and with none at all.

Held-out trusted inputs are described by codes fitted to others, every layer on one grid of its own,
so that decompositions of one model compare, whatever they leave over.
"""

from collections.abc import Mapping

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
    model: MonitoredModel, decomposition: Decomposition, data: Dataset, rows: Split
) -> tuple[float, float]:
    """Return the mean bits of an input with the decomposition's components, and without any.

    Codes are fitted to inputs of the fitting part, and describe inputs of the weighing part.
    """
    seen, new = (
        _activity(model, decomposition, data, part)
        for part in (rows.fitting[:SEEN], rows.weighing[:NEW])
    )
    used, unused = 0.0, 0.0
    for view in decomposition.views:
        places = torch.arange(seen[view].num_components)
        unit = decomposition.directions(view, places).double().norm(dim=1)
        step = _step(seen[view])
        used += float(activity_bits(seen[view], new[view], unit, step=step).mean())
        bare, bare_new = (left_over(part[view].activation) for part in (seen, new))
        unused += float(activity_bits(bare, bare_new, unit[:0], step=step).mean())
    return used, unused


def _activity(
    model: MonitoredModel, decomposition: Decomposition, data: Dataset, rows: Int64[Tensor, " row"]
) -> Mapping[View, Activity]:
    run = capture(model, decomposition.sites, data.take(rows))
    with torch.no_grad():
        return decomposition.activity(run.activations)


def _step(activity: Activity) -> float:
    away = activity.activation.double() - activity.activation.double().mean(dim=0)
    return RELATIVE_RESOLUTION * float(away.square().mean().sqrt().clamp_min(1e-12))
