"""Where training starts: latents at data points, as long as reconstructions should be."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan

_PIECE = 1_024


@final
@dataclass(frozen=True)
class Start:
    """The first weights for normalised vectors: a linear map, rectified, and another back."""

    encoder: Float[Tensor, "source component"]
    bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]

    def owned(self) -> "Start":
        """Return copies that gradients may change."""
        return Start(
            *(one.clone().requires_grad_() for one in (self.encoder, self.bias, self.decoder))
        )


def initial(sample: Examples, plan: DictionaryPlan) -> Start:
    """Start the latents at data points, encoder tied to decoder but for one scale."""
    generator = torch.Generator().manual_seed(plan.seed)
    rows = torch.randint(len(sample), (plan.width,), generator=generator)
    noise = torch.randn(plan.width, sample.target.shape[1], generator=generator)
    decoder = _blended(sample.target[rows], noise)
    encoder = decoder
    if not sample.is_own:
        noise = torch.randn(plan.width, sample.source.shape[1], generator=generator)
        encoder = _blended(sample.source[rows], noise)
    tied = Start(encoder.T.contiguous().clone(), torch.zeros(plan.width), decoder)
    few = torch.randint(len(sample), (_PIECE,), generator=generator)
    overshoot = _overshoot(tied, sample.take(few), plan.k)
    return Start(tied.encoder / overshoot, tied.bias, tied.decoder)


def _blended(
    points: Float[Tensor, "component coordinate"], noise: Float[Tensor, "component coordinate"]
) -> Float[Tensor, "component coordinate"]:
    directions = functional.normalize(points, dim=1) + 0.1 * functional.normalize(noise, dim=1)
    return functional.normalize(directions, dim=1)


def _overshoot(start: Start, batch: Examples, k: int) -> Float[Tensor, ""]:
    """Return how many times too long the reconstruction is, by least squares.

    Directions that agree with an input also agree with each other, so the sum of k shares is too
    long: up to ten times, which is a hundred times the variance and hundreds of steps to undo.
    """
    before = batch.source @ start.encoder + start.bias
    values, components = torch.topk(before, min(k, before.shape[1]), dim=1)
    explained = functional.embedding_bag(
        components, start.decoder, per_sample_weights=values.relu(), mode="sum"
    )
    fits = (batch.target * explained).sum()
    return explained.square().sum() / fits if fits > 0 else torch.ones(())
