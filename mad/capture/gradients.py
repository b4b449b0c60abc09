"""Run the model forward and backward: how a number it answers depends on chosen sites."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.capture.edit import Edit, editing
from mad.capture.hooks import Outputs, forward, tensors_in
from mad.capture.model import MonitoredModel
from mad.errors import ConfigError
from mad.types import Activations, Inputs, Site, batch_size


@final
@dataclass(frozen=True)
class Slopes:
    """What one forward pass, and one backward pass and one more a branch, computed.

    ``gradients`` has the derivative of each input's number by that input's activations; each of
    ``dropped`` has the same as if nothing led back through the output of one branch, in the order
    of the branches.
    """

    outputs: Outputs
    activations: Activations
    gradients: Activations
    dropped: tuple[Activations, ...] = ()


def slopes(
    model: MonitoredModel,
    sites: Sequence[Site],
    inputs: Inputs,
    *,
    of: Callable[[Outputs], Float[Tensor, " batch"]],
    also_keep: Sequence[Site] = (),
    branches: Sequence[Site] = (),
) -> Slopes:
    """Differentiate a number an input, made of the model's outputs, by the activations at sites.

    Sites to ``also_keep`` are not differentiated by. Parameters may be frozen. Law: outputs are bit
    for bit the model's own; inputs, hooks, mode, parameters and their gradients stay as they were.

    Raises:
        ConfigError: as ``capture`` does, and when the number does not depend on a site through
            operations that can be differentiated.
    """
    kept: dict[Site, Tensor] = {}
    gates = _Gates()
    edits: dict[Site, Edit] = {site: partial(_keep, kept, site) for site in sites}
    edits |= {site: partial(_look, kept, site) for site in also_keep}
    edits |= {branch: gates.behind(branch, edits.get(branch)) for branch in branches}
    with torch.inference_mode(mode=False), torch.enable_grad():
        with editing(model, edits, batch=batch_size(inputs)):
            outputs = tensors_in(forward(model, inputs))
        number = of(outputs).sum()
        leaves = {site: kept[site] for site in sites}
        whole = _gradients(number, leaves, again=bool(branches))
        dropped = tuple(gates.dropped(number, leaves, branches))
    return Slopes(
        {name: value.detach() for name, value in outputs.items()},
        {site: activation.detach() for site, activation in kept.items()},
        whole,
        dropped,
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


@dataclass
class _Gates:
    """Gates behind the outputs of branches; through the closed one no gradient leads back."""

    closed: Site = ""

    def behind(self, branch: Site, before: Edit | None) -> Edit:
        """Return an edit that changes nothing, and lets gradients through while it is open."""

        def shut(gradient: Tensor) -> Tensor | None:
            return torch.zeros_like(gradient) if self.closed == branch else None

        def edit(activation: Tensor) -> Tensor:
            out = (before(activation) if before else activation).clone()
            if out.requires_grad:
                out.register_hook(shut)
            return out

        return edit

    def dropped(
        self, number: Tensor, leaves: Mapping[Site, Tensor], branches: Sequence[Site]
    ) -> Iterator[Activations]:
        """Differentiate once for each branch, with its gate closed."""
        for branch in branches:
            self.closed = branch
            yield _gradients(number, leaves, again=branch != branches[-1])


def _gradients(number: Tensor, leaves: Mapping[Site, Tensor], *, again: bool) -> Activations:
    found: Sequence[Tensor | None] = (None,) * len(leaves)
    if number.requires_grad and leaves:
        found = torch.autograd.grad(
            number, list(leaves.values()), allow_unused=True, retain_graph=again
        )
    gradients = dict(zip(leaves, found, strict=True))
    if missing := [site for site, gradient in gradients.items() if gradient is None]:
        raise ConfigError(
            f"the model's output cannot be differentiated by site {missing[0]!r}: between them it "
            "rounds, picks, runs without gradients, or does not use the site; name a site nearer "
            "to the output, or give a model that returns scores"
        )
    return gradients  # type: ignore[return-value]  # none is missing
