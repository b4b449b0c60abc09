"""Which latents start together in one expert: those whose directions are alike."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

_ROUNDS = 10


def alike(
    directions: Float[Tensor, "latent coordinate"], groups: int, *, generator: torch.Generator
) -> tuple[Int64[Tensor, " latent"], Float[Tensor, "coordinate group"]]:
    """Return latents in an order that puts like ones side by side, and the mean of each group.

    Groups are of equal size: ``order`` has the first group's, then the second's. By k-means with
    room for so many in each, on directions of unit length; means too are of unit length.
    """
    unit = functional.normalize(directions, dim=1)
    first = torch.randperm(len(unit), generator=generator)[:groups]
    means = unit[first]
    own = _shared_out(unit @ means.T)
    for _ in range(_ROUNDS):
        totals = torch.zeros_like(means).index_add_(0, own, unit)
        means = functional.normalize(totals, dim=1)
        own = _shared_out(unit @ means.T)
    return own.argsort(stable=True), means.T.contiguous()


def _shared_out(likeness: Float[Tensor, "latent group"]) -> Int64[Tensor, " latent"]:
    """Give each latent to the group it is most like among those with room; the likest go first."""
    latents, groups = likeness.shape
    room = [latents // groups] * groups
    own = torch.full((latents,), -1)
    open_to = likeness.clone()
    while (own < 0).any():
        free = (own < 0).nonzero().squeeze(1)
        best, wish = open_to[free].max(dim=1)
        for group in wish.unique().tolist():
            asking = free[wish == group]
            order = best[wish == group].argsort(descending=True, stable=True)
            taken = asking[order[: room[group]]]
            own[taken] = group
            room[group] -= taken.numel()
            if not room[group]:
                open_to[:, group] = -torch.inf
    return own
