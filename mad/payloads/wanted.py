"""What a baseline asks of those who send: shapes at its sites, widths of its views, labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mad.baseline.bundle import Baseline, InputSpec
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.types import Inputs, Site, View


@final
@dataclass(frozen=True)
class Shapes:
    """What the model gives at each site, and what its first output is, without the batch axis."""

    sites: tuple[InputSpec, ...]
    output: InputSpec | None

    @staticmethod
    def of(model: MonitoredModel, sites: Sequence[Site], baseline: Baseline) -> "Shapes":
        """Run the model on zeros of the shape that trusted inputs had."""
        run = capture(model, sites, zeros(baseline))
        first = next(iter(run.outputs.items()), None)
        return Shapes(
            tuple(_spec(site, tensor) for site, tensor in run.activations.items()),
            None if first is None or first[1].ndim == 0 else _spec(*first),
        )


def zeros(baseline: Baseline) -> Inputs:
    """Return one input of zeros, shaped as trusted ones."""
    return {
        spec.name: torch.zeros((1, *spec.shape), dtype=getattr(torch, spec.dtype))
        for spec in baseline.manifest.inputs
    }


def widths(baseline: Baseline) -> dict[View, int]:
    """Return how many components there are in each view that has any, in the order of its parts."""
    return {
        part.site: part.marginal.rate.numel()
        for part in baseline.mechanism.parts
        if part.marginal is not None
    }


def asks_for_labels(baseline: Baseline) -> bool:
    """Whether the model predicted labels for the trusted inputs, and codes look at them."""
    return baseline.manifest.context == "predicted" and bool((baseline.contexts >= 0).any())


def _spec(name: str, tensor: Tensor) -> InputSpec:
    return InputSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape[1:]))


def drawn(baseline: Baseline, count: int) -> Inputs:
    """Draw inputs of any use but to run the model: normal numbers, and whole ones that are 0 or 1.

    Larger ones may name no token of a vocabulary. The same baseline draws the same inputs.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for spec in baseline.manifest.inputs:
        kind: torch.dtype = getattr(torch, spec.dtype)
        shape = (count, *spec.shape)
        found[spec.name] = (
            torch.randn(shape, generator=generator).to(kind)
            if kind.is_floating_point or kind.is_complex
            else torch.randint(2, shape, generator=generator).to(kind)
        )
    return found
