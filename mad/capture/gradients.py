"""Run the model forward and backward once: how a number it answers depends on chosen sites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.capture.edit import editing
from mad.capture.hooks import Outputs, forward, tensors_in
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError
from mad.types import Activations, Inputs, Site, batch_size


@final
@dataclass(frozen=True)
class Slopes:
    """What one forward and one backward pass computed.

    ``gradients`` has the derivative of each input's number by that input's activations.
    """

    outputs: Outputs
    activations: Activations
    gradients: Activations


def slopes(
    model: MonitoredModel,
    sites: Sequence[Site],
    inputs: Inputs,
    *,
    of: Callable[[Outputs], Float[Tensor, " batch"]],
    also_keep: Sequence[Site] = (),
) -> Slopes:
    """Differentiate a number an input, made of the model's outputs, by the activations at sites.

    Sites to ``also_keep`` are not differentiated by. Parameters may be frozen. Law: outputs are bit
    for bit the model's own; inputs, hooks, mode, parameters and their gradients stay as they were.

    Raises:
        ConfigError: as ``capture`` does, and when the number does not depend on a site through
            operations that can be differentiated.
    """
    kept: dict[Site, Tensor] = {}
    edits = {site: partial(_keep, kept, site) for site in sites} | {
        site: partial(_look, kept, site) for site in also_keep
    }
    with torch.inference_mode(mode=False), torch.enable_grad():
        with editing(model, edits, batch=batch_size(inputs)):
            outputs = tensors_in(forward(model, inputs))
        gradients = _gradients(of(outputs).sum(), [kept[site] for site in sites])
    if missing := [site for site, found in zip(sites, gradients, strict=True) if found is None]:
        raise ConfigError(
            f"the model's output cannot be differentiated by site {missing[0]!r}: between them it "
            "rounds, picks, runs without gradients, or does not use the site; name a site nearer "
            "to the output, or give a model that returns scores"
        )
    return Slopes(
        {name: value.detach() for name, value in outputs.items()},
        {site: activation.detach() for site, activation in kept.items()},
        dict(zip(sites, gradients, strict=True)),  # type: ignore[arg-type]  # none is missing
    )


def _keep(kept: dict[Site, Tensor], site: Site, activation: Tensor) -> Tensor:
    """Keep what to differentiate by; hand on a copy, which the model may change in place."""
    leads_back = activation.requires_grad
    kept[site] = activation if leads_back else activation.detach().requires_grad_()
    return kept[site].clone()


def _look(kept: dict[Site, Tensor], site: Site, activation: Tensor) -> Tensor:
    """Keep what is only read."""
    kept[site] = activation.detach().clone()
    return activation


def _gradients(number: Tensor, activations: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    if not number.requires_grad or not activations:
        return (None,) * len(activations)
    return torch.autograd.grad(number, list(activations), allow_unused=True)
