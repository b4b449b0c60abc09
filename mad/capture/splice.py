"""Run the model once with something else in the place of chosen sites, and keep the gradients.

What stands there may be in training: its gradients lead back through what the model does with it,
while the model itself learns nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor

from mad.capture.edit import Edit, editing
from mad.capture.hooks import Outputs, forward, tensors_in
from mad.capture.model import MonitoredModel
from mad.types import Activations, Inputs, Site, batch_size


@final
@dataclass(frozen=True)
class Spliced:
    """What a model answers with something spliced in, and what it then computes at other sites.

    All with gradients, as far as they depend on what was spliced in.
    """

    outputs: Outputs
    activations: Activations


def spliced(
    model: MonitoredModel, edits: Mapping[Site, Edit], inputs: Inputs, *, sites: Sequence[Site] = ()
) -> Spliced:
    """Run the model with the outputs of some sites changed, and keep its activations at others.

    Law: inputs, hooks, mode and parameters stay as they were, and parameters get no gradients when
    only what is spliced in is asked for some (``backward(inputs=...)``).

    Raises:
        ConfigError: as ``capture`` does.
    """
    assert not set(edits) & set(sites)
    kept: dict[Site, Tensor] = {}
    hooks: dict[Site, Edit] = {
        **{site: partial(_detached, edit) for site, edit in edits.items()},
        **{site: partial(_keep, kept, site) for site in sites},
    }
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        editing(model, hooks, batch=batch_size(inputs)),
    ):
        outputs = tensors_in(forward(model, inputs))
    return Spliced(outputs, {site: kept[site] for site in sites})


def _detached(edit: Edit, activation: Tensor) -> Tensor:
    """Edit what the model computed, which is given: it leads back to parameters not in training."""
    return edit(activation.detach())


def _keep(kept: dict[Site, Tensor], site: Site, activation: Tensor) -> Tensor:
    # A copy goes on: the model may change it in place.
    kept[site] = activation
    return activation.clone()
