"""Toy data whose truth is known: what dictionaries should find in them, and vectors to find it in.

Sizes and a seed in; a ``Toy`` out, which draws as many vectors as asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Rates: TypeAlias = Literal["uniform", "zipf"]
"""How often features occur: all alike, or the n-th as often as ``1 / (n + 10)`` (Mandelbrot)."""

Draw: TypeAlias = Callable[[int, torch.Generator], Float[Tensor, "vector coordinate"]]

_TRUTH = 1_000_003

_OFFSET = 10.0
"""Without it, the few most frequent features would have to occur more often than always."""


@final
@dataclass(frozen=True)
class Toy:
    """A source of vectors; ``directions`` are of length one, None where there are none to find.

    With ``is_places`` vectors lie about them rather than being sums of them.
    """

    name: str
    directions: Float[Tensor, "feature coordinate"] | None
    draw: Draw
    is_places: bool = False


def superposed(
    *,
    features: int = 256,
    coordinates: int = 64,
    active: float = 3.0,
    rates: Rates = "uniform",
    seed: int = 0,
) -> Toy:
    """Draw sums of a few of many random directions, more than there are coordinates.

    Features occur independently, ``active`` of them on average and one at least, with strengths
    uniform between one half and one and a half (after Elhage et al. 2022, "Toy models of
    superposition").
    """
    directions = _directions(features, coordinates, seed)
    chances = _chances(features, active, rates)

    def draw(count: int, generator: torch.Generator) -> Float[Tensor, "vector coordinate"]:
        occurs = torch.rand(count, features, generator=generator) < chances
        lonely = ~occurs.any(dim=1)
        instead = torch.multinomial(chances, count, replacement=True, generator=generator)
        occurs |= lonely.unsqueeze(1) & functional.one_hot(instead, features).bool()
        return _summed(occurs, directions, generator)

    return Toy(f"superposed, {rates}", directions, draw)


def correlated(
    *,
    features: int = 256,
    coordinates: int = 64,
    active: int = 3,
    groups: int = 32,
    together: float = 0.8,
    seed: int = 0,
) -> Toy:
    """Draw sums of as many features as asked for, most of them out of one group.

    A vector belongs to a group; each of its features is one of the group with the chance
    ``together``, and else any. So features of a group occur together far more often than others.
    """
    assert features % groups == 0, "groups are of equal size"
    directions = _directions(features, coordinates, seed)
    size = features // groups

    def draw(count: int, generator: torch.Generator) -> Float[Tensor, "vector coordinate"]:
        group = torch.randint(groups, (count, 1), generator=generator)
        own = group * size + torch.rand(count, size, generator=generator).argsort(dim=1)[:, :active]
        other = torch.randint(features, (count, active), generator=generator)
        is_own = torch.rand(count, active, generator=generator) < together
        occurs = torch.zeros(count, features, dtype=torch.bool)
        occurs.scatter_(1, torch.where(is_own, own, other), value=True)
        return _summed(occurs, directions, generator)

    return Toy("correlated", directions, draw)


def gaussians(
    *, clusters: int = 12, coordinates: int = 16, spread: float = 0.1, seed: int = 0
) -> Toy:
    """Draw from a mixture of equal Gaussians, whose centres are the directions to find.

    Centres have length one, and vectors stray from them by ``spread`` in all.
    """
    centres = _directions(clusters, coordinates, seed)

    def draw(count: int, generator: torch.Generator) -> Float[Tensor, "vector coordinate"]:
        which = torch.randint(clusters, (count,), generator=generator)
        noise = torch.randn(count, coordinates, generator=generator)
        vectors: Tensor = centres[which] + spread / coordinates**0.5 * noise
        return vectors

    return Toy("gaussians", centres, draw, is_places=True)


def square() -> Toy:
    """Draw points anywhere in the unit square: there is nothing to find, only to cover."""

    def draw(count: int, generator: torch.Generator) -> Float[Tensor, "vector coordinate"]:
        return torch.rand(count, 2, generator=generator)

    return Toy("square", None, draw)


def _directions(count: int, coordinates: int, seed: int) -> Float[Tensor, "feature coordinate"]:
    # Not the seed itself: a training of that seed would start at the very directions to find.
    generator = torch.Generator().manual_seed(_TRUTH + seed)
    return functional.normalize(torch.randn(count, coordinates, generator=generator), dim=1)


def _chances(features: int, active: float, rates: Rates) -> Float[Tensor, " feature"]:
    """Return chances that add up to ``active``, none above one."""
    weights = torch.ones(features)
    if rates == "zipf":
        weights = (torch.arange(1, features + 1) + _OFFSET).reciprocal()
    chances: Tensor = active * weights / weights.sum()
    assert chances.max() <= 1, "so few features cannot be so active"
    return chances


def _summed(
    occurs: Bool[Tensor, "vector feature"],
    directions: Float[Tensor, "feature coordinate"],
    generator: torch.Generator,
) -> Float[Tensor, "vector coordinate"]:
    strengths = 0.5 + torch.rand(occurs.shape, generator=generator)
    vectors: Tensor = (occurs * strengths) @ directions
    return vectors
