"""How many bits describe one held-out input with a dictionary, at a chosen precision."""

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.fit.description import activity_bits
from mad.report.dictionary.observed import Observed
from mad.types import Activity

MAX_COORDINATES = 2_048
"""Wider views are not described: a covariance grows with the square."""


@final
@dataclass(frozen=True, slots=True)
class Length:
    """Bits of one held-out input, on a grid of ``relative_step`` of each view's deviation.

    ``description_bits`` is the whole description: the active set as one coin a latent, Gaussian
    magnitudes, a Gaussian residual, all of them fitted on other inputs, and the parameters at
    ``1/2 log2 n`` each, shared by ``n`` inputs (``mad.fit.description``). ``bare_bits`` is the same
    without the dictionary: a Gaussian of the activations. Both are None of views too wide.
    ``code_bits`` is the bound of MDL-SAEs on the latents alone (Ayonrinde, Pearce and Sharkey
    2024, arXiv 2410.11179), without what they leave over: compare it at equal error only.
    """

    relative_step: float
    description_bits: float | None
    bare_bits: float | None
    code_bits: float


def code_bits(active: float, *, width: int, precision_bits: float) -> float:
    """Return ``L0 (B + log2 C)``: each active latent by its index and a number of ``B`` bits."""
    return active * (precision_bits + math.log2(width)) if active else 0.0


def length(seen: Observed, new: Observed, *, relative_step: float, inputs: int) -> Length:
    """Describe new inputs with codes fitted on seen ones, for ``inputs`` inputs in all.

    A number of the code bound has ``log2(1 / relative_step)`` bits: as many as tell the steps of
    one deviation apart.
    """
    activity = new.activity
    bound = code_bits(
        len(activity.components) / len(activity),
        width=max(activity.num_components, 1),
        precision_bits=-math.log2(relative_step),
    )
    if max(one.activation.shape[1] for one in new.views.values()) > MAX_COORDINATES:
        return Length(relative_step, None, None, bound)
    described = bare = 0.0
    nothing = torch.zeros(0, dtype=torch.float64)
    for view, known in seen.views.items():
        step = relative_step * _deviation(known)
        unit = seen.reach.double() if known.num_components else nothing
        own, without = new.views[view], _without(new.views[view])
        described += _mean(activity_bits(known, own, unit, step=step))
        bare += _mean(activity_bits(_without(known), without, nothing, step=step))
    parameters = activity.num_components * (new.target.shape[1] + 3)
    described += parameters * 0.5 * math.log2(inputs) / inputs
    return Length(relative_step, described, bare, bound)


def _without(activity: Activity) -> Activity:
    """Leave everything over."""
    return replace(
        activity,
        offsets=torch.zeros_like(activity.offsets),
        components=activity.components[:0],
        magnitudes=activity.magnitudes[:0],
        residual=activity.activation,
        num_components=0,
    )


def _deviation(activity: Activity) -> float:
    x = activity.activation.double()
    return float((x - x.mean(dim=0)).square().mean().sqrt())


def _mean(bits: Float64[Tensor, " batch"]) -> float:
    return float(bits.mean())
