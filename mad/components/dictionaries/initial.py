"""Where training starts: directions of latents, as long as reconstructions should be."""

from dataclasses import dataclass, field, replace
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
    """The first weights for normalised vectors: a linear map, rectified, and another back.

    ``threshold`` is what k latents of a vector exceed, on average over a sample: kinds that choose
    by a threshold start with the activity asked for. Those that subtract it from what they keep
    make it up by ``stretch``. ``widths`` are the coordinates of each of several sites explained.
    """

    encoder: Float[Tensor, "source component"]
    bias: Float[Tensor, " component"]
    decoder: Float[Tensor, "component target"]
    threshold: Float[Tensor, ""] = field(default_factory=lambda: torch.zeros(()))
    stretch: Float[Tensor, ""] = field(default_factory=lambda: torch.ones(()))
    widths: tuple[int, ...] = ()

    def owned(self) -> "Start":
        """Return copies of the weights that gradients may change."""
        return replace(
            self,
            encoder=self.encoder.clone().requires_grad_(),
            bias=self.bias.clone().requires_grad_(),
            decoder=self.decoder.clone().requires_grad_(),
        )

    def measured(self, sample: Examples, k: int) -> "Start":
        """Return the same weights, with a threshold and a stretch for k active latents."""
        few = sample.first(_PIECE)
        before = few.source @ self.encoder + self.bias
        most = min(k * len(few), before.numel())
        threshold = before.flatten().topk(most).values[-1].clamp_min(0)
        explained = (before - threshold).relu() @ self.decoder
        stretch = 1 / _times_too_long(explained, few.target)
        return replace(self, threshold=threshold, stretch=stretch)


def initial(sample: Examples, plan: DictionaryPlan) -> Start:
    """Start the latents as planned, encoder tied to decoder but for one scale."""
    generator = torch.Generator().manual_seed(plan.seed)
    encoder, decoder = _directions(sample, plan, generator)
    few = sample.take(torch.randint(len(sample), (_PIECE,), generator=generator))
    tied = Start(encoder.T.contiguous().clone(), torch.zeros(plan.width), decoder)
    overshoot = _overshoot(tied, few, plan.k)
    return replace(tied, encoder=tied.encoder / overshoot).measured(few, plan.k)


def _directions(
    sample: Examples, plan: DictionaryPlan, generator: torch.Generator
) -> tuple[Float[Tensor, "component source"], Float[Tensor, "component target"]]:
    match plan.initial:
        case "data":
            return _points(sample, plan.width, generator)
        case "random":
            return _anywhere(sample, plan.width, generator)
        case "pca":
            return _principal(sample, plan.width, generator)


def _points(
    sample: Examples, width: int, generator: torch.Generator
) -> tuple[Float[Tensor, "component source"], Float[Tensor, "component target"]]:
    """Return directions near those of random vectors of the sample."""
    rows = torch.randint(len(sample), (width,), generator=generator)
    decoder = _blended(sample.target[rows], _noise(sample.target, width, generator))
    if sample.is_own:
        return decoder, decoder
    return _blended(sample.source[rows], _noise(sample.source, width, generator)), decoder


def _anywhere(
    sample: Examples, width: int, generator: torch.Generator
) -> tuple[Float[Tensor, "component source"], Float[Tensor, "component target"]]:
    """Return directions that are uniform on the sphere."""
    decoder = functional.normalize(_noise(sample.target, width, generator), dim=1)
    if sample.is_own:
        return decoder, decoder
    return functional.normalize(_noise(sample.source, width, generator), dim=1), decoder


def _principal(
    sample: Examples, width: int, generator: torch.Generator
) -> tuple[Float[Tensor, "component source"], Float[Tensor, "component target"]]:
    """Return the principal axes both ways, those of most variance first.

    Latents beyond twice the coordinates get directions of that covariance at random. A transcoder
    writes what goes along with each axis in the target.
    """
    variances, axes = torch.linalg.eigh(sample.source.T @ sample.source)
    ordered = axes.T.flip(0)
    both = torch.stack([ordered, -ordered], dim=1).flatten(0, 1)[:width]
    spread = variances.clamp_min(0).sqrt()
    others = _noise(sample.source, width - len(both), generator) * spread @ axes.T
    encoder = functional.normalize(torch.cat([both, others]), dim=1)
    if sample.is_own:
        return encoder, encoder
    along = encoder @ (sample.source.T @ sample.target)
    return encoder, _blended(along, _noise(sample.target, width, generator))


def _noise(
    like: Float[Tensor, "vector coordinate"], count: int, generator: torch.Generator
) -> Float[Tensor, "component coordinate"]:
    return torch.randn(count, like.shape[1], generator=generator)


def _blended(
    points: Float[Tensor, "component coordinate"], noise: Float[Tensor, "component coordinate"]
) -> Float[Tensor, "component coordinate"]:
    directions = functional.normalize(points, dim=1) + 0.1 * functional.normalize(noise, dim=1)
    return functional.normalize(directions, dim=1)


def _overshoot(start: Start, batch: Examples, k: int) -> Float[Tensor, ""]:
    """Return how many times too long the reconstruction of the k largest is, by least squares.

    Directions that agree with an input also agree with each other, so the sum of k shares is too
    long: up to ten times, which is a hundred times the variance and hundreds of steps to undo.
    """
    before = batch.source @ start.encoder + start.bias
    values, components = torch.topk(before, min(k, before.shape[1]), dim=1)
    explained = functional.embedding_bag(
        components, start.decoder, per_sample_weights=values.relu(), mode="sum"
    )
    return _times_too_long(explained, batch.target)


def _times_too_long(
    explained: Float[Tensor, "batch coordinate"], target: Float[Tensor, "batch coordinate"]
) -> Float[Tensor, ""]:
    fits = (target * explained).sum()
    return explained.square().sum() / fits if fits > 0 else torch.ones(())
