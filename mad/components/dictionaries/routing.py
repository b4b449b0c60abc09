"""What a Switch dictionary's router looks at, and whether its experts repeat each other.

Is the router a down-projection of the encoder's features? If it is, its rows lie where the
encoder's do, each points where its expert's do, and it picks the expert whose latents would be the
largest. Each figure comes with what chance gives.

A router that points against its expert is no error of sign. What an expert reconstructs is
multiplied by its chance, which grows along the router's row; where vectors have no clusters to tell
experts apart, encoder rows learn to fall off along it to make that good, and then the likeliest
expert is that of the smallest latents.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.kinds.switch import SwitchEncoder

_PIECE = 1_024


@final
@dataclass(frozen=True)
class RouterGeometry:
    """Where the rows of a router lie, one for each expert that can be chosen.

    ``angle_cosines`` are the cosines of the principal angles between the span of the router's rows
    and that of each expert's leading encoder direction, descending; random spans give
    ``angle_cosines_by_chance`` as root mean square. ``r_squared`` is the share of each router row
    that lies in the span of the ``rank`` leading directions of an encoder's rows; random rows give
    ``r_squared_by_chance``. ``own_cosine`` is that of each router row with the mean encoder row of
    its expert, ``other_cosine`` the mean over the other experts.
    """

    angle_cosines: Float[Tensor, " angle"]
    angle_cosines_by_chance: float
    r_squared: Float[Tensor, " routed"]
    r_squared_by_chance: float
    rank: int
    own_cosine: Float[Tensor, " routed"]
    other_cosine: Float[Tensor, " routed"]


@final
@dataclass(frozen=True)
class Agreement:
    """How often two ways to choose an expert agree, and how often they would by chance."""

    share: float
    by_chance: float


def router_geometry(
    encoder: SwitchEncoder,
    *,
    rank: int,
    dense: Float[Tensor, "source component"] | None = None,
) -> RouterGeometry:
    """Compare a router with the encoder it routes to, or for ``r_squared`` with a ``dense`` one.

    All directions of a wide encoder span the whole space, and any router lies in it: so only the
    ``rank`` leading ones count, of random rows a share of rank over coordinates.
    """
    coordinates, routed = encoder.router.shape
    rows = functional.normalize(encoder.router.T, dim=1)
    blocks = _blocks(encoder)
    leading = torch.stack([_leading(block, 1)[0] for block in blocks])
    means = functional.normalize(blocks.mean(dim=1), dim=1)
    against = encoder.weight.T if dense is None else dense.T
    axes = _leading(against, min(rank, *against.shape))
    cosines = rows @ means.T
    own = cosines.diagonal()
    return RouterGeometry(
        angle_cosines=principal_cosines(rows, leading),
        angle_cosines_by_chance=min(1.0, routed / coordinates) ** 0.5,
        r_squared=(rows @ axes.T).square().sum(dim=1),
        r_squared_by_chance=len(axes) / coordinates,
        rank=len(axes),
        own_cosine=own,
        other_cosine=(cosines.sum(dim=1) - own) / max(routed - 1, 1),
    )


def principal_cosines(
    one: Float[Tensor, "some coordinate"], two: Float[Tensor, "others coordinate"]
) -> Float[Tensor, " angle"]:
    """Return the cosines of the principal angles between the spans of two sets of rows, descending.

    As many as the smaller span has dimensions (Björck and Golub 1973).
    """
    first, second = _basis(one), _basis(two)
    cosines: Tensor = torch.linalg.svdvals(first @ second.T)
    return cosines.clamp_max(1.0)


def router_agreement(encoder: SwitchEncoder, source: Float[Tensor, "batch source"]) -> Agreement:
    """Say how often the likeliest expert is the one whose own latents would add up to the most.

    Every expert's rectified latents of normalised vectors are computed for it. By chance, two
    choices that are as frequent but independent agree.
    """
    routed = encoder.router.shape[1]
    chosen, largest = [], []
    for piece in source.split(_PIECE):
        chosen.append((piece @ encoder.router + encoder.router_bias).argmax(dim=1))
        latents = (piece @ encoder.weight + encoder.bias).relu()
        by_expert = latents.unflatten(1, (encoder.experts, -1)).sum(dim=2)
        largest.append(by_expert[:, :routed].argmax(dim=1))
    one, two = torch.cat(chosen), torch.cat(largest)
    rates = [each.bincount(minlength=routed).double() / len(source) for each in (one, two)]
    return Agreement(float((one == two).double().mean()), float(rates[0] @ rates[1]))


def repeated_share(
    decoder: Float[Tensor, "component coordinate"], experts: int, *, cosine: float = 0.9
) -> float:
    """Return the share of latents whose direction a latent of another expert has too.

    Two directions are the same from this cosine up. This is what routing may cost: experts that
    learn what others know already (Mudide et al. 2024, section 6).
    """
    unit = functional.normalize(decoder, dim=1)
    expert = torch.arange(experts).repeat_interleave(len(unit) // experts)
    repeated = 0
    for rows, own in zip(unit.split(_PIECE), expert.split(_PIECE), strict=True):
        alike = (rows @ unit.T >= cosine) & (own.unsqueeze(1) != expert)
        repeated += int(alike.any(dim=1).sum())
    return repeated / len(unit)


def _blocks(encoder: SwitchEncoder) -> Float[Tensor, "routed own source"]:
    """Return the encoder rows of each expert that can be chosen."""
    blocks = encoder.weight.T.reshape(encoder.experts, -1, encoder.weight.shape[0])
    return blocks[: encoder.router.shape[1]]


def _leading(
    rows: Float[Tensor, "row coordinate"], count: int
) -> Float[Tensor, "count coordinate"]:
    """Return the directions that hold most of the rows' squares, orthonormal."""
    directions: Tensor = torch.linalg.svd(rows, full_matrices=False).Vh
    return directions[:count]


def _basis(rows: Float[Tensor, "row coordinate"]) -> Float[Tensor, "dimension coordinate"]:
    """Return an orthonormal basis of the rows' span."""
    found = torch.linalg.svd(rows, full_matrices=False)
    sizes, directions = found.S, found.Vh
    least = sizes[0] * max(rows.shape) * torch.finfo(rows.dtype).eps
    basis: Tensor = directions[sizes > least]
    return basis
