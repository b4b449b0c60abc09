"""Latents that nothing activates: how they are taught again."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional


def revival(
    before: Float[Tensor, "batch dead"],
    dead: Int64[Tensor, " dead"],
    decoder: Float[Tensor, "component coordinate"],
    error: Float[Tensor, "batch coordinate"],
    *,
    most: int,
) -> Float[Tensor, ""]:
    """Return how badly the dead latents explain what the living ones leave over.

    ``before`` are the dead latents' values before any rule silenced them; at most ``most`` of them
    take part for each vector (Gao et al. 2024, appendix A.2). The error is taken as given.
    """
    target = error.detach()
    values, chosen = torch.topk(before, min(dead.numel(), most), dim=1)
    explained = functional.embedding_bag(
        dead[chosen], decoder, per_sample_weights=values.relu(), mode="sum"
    )
    return (target - explained).square().sum(dim=1).mean() / target.square().sum(dim=1).mean()


def unsilenced(
    source: Float[Tensor, "batch source"],
    encoder: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    dead: Int64[Tensor, " dead"],
) -> Float[Tensor, "batch dead"]:
    """Return the dead latents' values but for the biases that silence them.

    Where a latent is silent because it is below zero, rather than below others, it has no value to
    explain anything by. It gets the one without its bias, and its bias the gradient of that: where
    more of the latent would help, the bias rises until the latent lives.
    """
    own = bias[dead]
    return source @ encoder[:, dead] + (own - own.detach())
