"""Shrinkage: penalised magnitudes come out too small; how much, and gains that make it good.

Reconstructing ``x`` by the sum of ``z_j d_j`` under a penalty of ``c`` times the sum of the ``z_j``
on orthogonal unit directions gives ``z_j = max(a_j - c / 2, 0)`` where the truth is ``a_j``: every
magnitude is too small by half the penalty (Wright & Sharkey 2024, "Addressing feature suppression
in SAEs"). Least squares on a sample finds what each latent is to be multiplied by.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.latents import Latents

_SWEEPS = 30
_CLOSE = 1e-10
_PIECE = 1_024
_LEAST = 0.1


def relative_bias(
    explained: Float[Tensor, "vector coordinate"], target: Float[Tensor, "vector coordinate"]
) -> Float[Tensor, ""]:
    """Return the ``g`` for which ``explained / g`` is nearest to the target; below 1 is shrunk.

    ``g = E|explained|^2 / E[explained . target]`` (Rajamanoharan et al. 2024, relative
    reconstruction bias). It is 1 where nothing is explained.
    """
    agreement = (explained * target).sum()
    return explained.square().sum() / agreement if agreement > 0 else torch.ones(())


def gains(
    latents: Latents,
    decoder: Float[Tensor, "component coordinate"],
    target: Float[Tensor, "vector coordinate"],
) -> Float[Tensor, " component"]:
    """Return the positive factor of each latent by which the sum is nearest to the target.

    With ``A[j, l] = sum_i z_ij z_il d_j . d_l`` and ``b[j] = sum_i z_ij d_j . x_i`` the nearest is
    ``A g = b``, solved by conjugate gradients, so that no matrix of latents by latents is needed.
    Each latent is held to the factor of all (one over the relative bias) by the weight of one
    activation of mean square: one that was barely active a few times says little of its own factor,
    and a silent one gets just that. None is below a tenth of it, so that what is active stays so,
    nor above ten times of it; where such bounds take effect, all go only as far from the common
    factor as helps. Law: no less is explained than by the common factor alone.
    """
    explained = latents.explained(decoder)
    common = 1 / relative_bias(explained, target)
    squares = _summed(latents, latents.values.square(), len(decoder)) * decoder.square().sum(dim=1)
    hold = squares.sum() / max(latents.components.numel(), 1)

    def moved(change: Float[Tensor, " component"]) -> Float[Tensor, "vector coordinate"]:
        values = latents.values * change[latents.components]
        return replace(latents, values=values).explained(decoder)

    def normal(change: Float[Tensor, " component"]) -> Float[Tensor, " component"]:
        return _agreement(latents, decoder, moved(change)) + hold * change

    left = target - common * explained
    wanted = _agreement(latents, decoder, left)
    change = _solved(normal, wanted, diagonal=squares + hold)
    change = change.clamp((_LEAST - 1) * common, (1 / _LEAST - 1) * common)
    # Of latents that are active together, one may be bounded alone: the other then overshoots.
    toward = moved(change)
    size = toward.square().sum().clamp_min(torch.finfo(toward.dtype).tiny)
    return common + ((toward * left).sum() / size).clamp(0, 1) * change


def _solved(
    normal: Callable[[Tensor], Tensor],
    wanted: Float[Tensor, " component"],
    *,
    diagonal: Float[Tensor, " component"],
) -> Float[Tensor, " component"]:
    """Return ``x`` with ``normal(x)`` about ``wanted``, by preconditioned conjugate gradients."""
    scale = torch.where(diagonal > 0, diagonal, 1)
    found, left = torch.zeros_like(wanted), wanted
    ahead = left / scale
    size = first = (left * ahead).sum()
    for _ in range(_SWEEPS):
        if size <= _CLOSE * first:
            break
        turned = normal(ahead)
        stride = size / (ahead * turned).sum()
        found = found + stride * ahead
        left = left - stride * turned
        before, size = size, (left * left / scale).sum()
        ahead = left / scale + size / before * ahead
    return found


def _agreement(
    latents: Latents,
    decoder: Float[Tensor, "component coordinate"],
    target: Float[Tensor, "vector coordinate"],
) -> Float[Tensor, " component"]:
    """Return ``sum_i z_ij d_j . x_i`` of each latent."""
    parts = []
    # In pieces: a direction for every entry is far larger than the vectors.
    for start in range(0, len(latents), _PIECE):
        bounds = latents.offsets[start : start + _PIECE + 1]
        directions = decoder[latents.components[bounds[0] : bounds[-1]]]
        vectors = target[start : start + _PIECE].repeat_interleave(bounds.diff(), dim=0)
        parts.append((directions * vectors).sum(dim=1))
    return _summed(latents, latents.values * torch.cat(parts), len(decoder))


def _summed(
    latents: Latents, of_entries: Float[Tensor, " entry"], width: int
) -> Float[Tensor, " component"]:
    return of_entries.new_zeros(width).index_add(0, latents.components, of_entries)
