"""How a number depends on the magnitudes of components: by the gradient at their site."""

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.base import Decomposition
from mad.types import Activations, Activity, View

_PIECE = 4_096


def by_magnitude(
    decomposition: Decomposition,
    view: View,
    activity: Activity,
    seen: Activations,
    gradients: Activations,
) -> Float[Tensor, " entry"]:
    """Return magnitude times the derivative by the magnitude, of each active component."""
    slope = _pooled_slope(decomposition, view, seen, gradients, like=activity.activation)
    rates = [
        (decomposition.directions(view, components) * slope[rows]).sum(dim=1)
        for components, rows in zip(
            # In pieces: a direction an entry can be far more than the activations.
            activity.components.split(_PIECE),
            activity.rows.split(_PIECE),
            strict=True,
        )
        if len(components)
    ]
    return activity.magnitudes * (torch.cat(rates) if rates else 1.0)


def _pooled_slope(
    decomposition: Decomposition,
    view: View,
    seen: Activations,
    gradients: Activations,
    *,
    like: Float[Tensor, "batch coordinate"],
) -> Float[Tensor, "batch coordinate"]:
    """Return the derivative by the pooled vector that components add up to."""
    site = decomposition.views[view]
    with torch.inference_mode(mode=False), torch.enable_grad():
        still = torch.zeros_like(like).requires_grad_()
        added = decomposition.spread(view, still, seen[site])
        (slope,) = torch.autograd.grad((added * gradients[site]).sum(), still)
    return slope
