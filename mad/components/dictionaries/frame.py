"""Where vectors lie and how far they spread: what makes sites of different sizes alike."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mad.errors import ConfigError

RowNorm: TypeAlias = Literal["none", "layer_norm", "norm"]
"""What each vector is brought to by itself, before the frame.

Nothing; mean zero and unit deviation over its coordinates; or a length of the root of their number.
Only dictionaries from elsewhere ask for the last two.
"""

_EPSILON = 1e-5
"""What layer norms in dictionaries add to a deviation, but not where they multiply by it again."""


@final
@dataclass(frozen=True)
class Frame:
    """A centre and one scale: ``normalised`` vectors have mean zero and unit mean square.

    Of several sites joined, each has a scale, repeated for its coordinates: all have equal shares
    of the squares, so that none drowns the others (Lindsey et al. 2024 normalise each layer).
    With ``rows`` each vector is first normalised by itself; what that takes out of it, ``restored``
    puts back.
    """

    centre: Float[Tensor, " coordinate"]
    scale: Float[Tensor, ""] | Float[Tensor, " coordinate"]
    rows: RowNorm = "none"

    @staticmethod
    def of(
        vectors: Float[Tensor, "vector coordinate"], *, name: str, widths: tuple[int, ...] = ()
    ) -> "Frame":
        """Measure vectors of what messages call ``name``.

        ``widths`` are the coordinates of each of several sites.

        Raises:
            ConfigError: when there are too few vectors, they are all equal, or not finite.
        """
        if len(vectors) < 2:  # noqa: PLR2004  # a spread needs two
            raise ConfigError(f"{name}: {len(vectors)} vectors cannot train a dictionary")
        centre = vectors.mean(dim=0)
        scale = (vectors - centre).square().mean().sqrt()
        if not scale.isfinite():
            raise ConfigError(f"{name} gives NaN or infinite numbers on trusted inputs")
        # Not by the scale alone: the mean of equal vectors may miss them in the last place, and
        # squares of tiny differences vanish.
        if (vectors == vectors[0]).all() or scale == 0:
            raise ConfigError(f"{name} gives the same vector for every trusted input; drop it")
        if len(widths) > 1:
            return Frame(centre, _by_site(vectors - centre, widths, name=name))
        return Frame(centre, scale)

    @staticmethod
    def identity(coordinates: int) -> "Frame":
        """Leave vectors as they are."""
        return Frame(torch.zeros(coordinates), torch.ones(()))

    def normalised(self, x: Float[Tensor, "batch coordinate"]) -> Float[Tensor, "batch coordinate"]:
        """Return vectors as the encoder takes them."""
        return (self._alone(x) - self.centre) / self.scale

    def restored(
        self,
        u: Float[Tensor, "batch coordinate"],
        like: Float[Tensor, "batch coordinate"] | None = None,
    ) -> Float[Tensor, "batch coordinate"]:
        """Return what ``normalised`` made of vectors to what they were.

        ``like`` are the vectors themselves; None will do where there is no rule for ``rows``.
        """
        framed = self.centre + self.scale * u
        if self.rows == "none":
            return framed
        assert like is not None
        return framed * self.factors(like) + (_mean(like) if self.rows == "layer_norm" else 0.0)

    def factors(self, x: Float[Tensor, "batch coordinate"]) -> Float[Tensor, "batch 1"]:
        """Return how many times larger each vector is than what ``rows`` makes of it."""
        match self.rows:
            case "none":
                return x.new_ones(len(x), 1)
            case "layer_norm":
                return x.std(dim=1, keepdim=True)
            case "norm":
                return x.square().mean(dim=1, keepdim=True).sqrt()

    def _alone(self, x: Float[Tensor, "batch coordinate"]) -> Float[Tensor, "batch coordinate"]:
        """Return what ``rows`` makes of each vector."""
        match self.rows:
            case "none":
                return x
            case "layer_norm":
                return (x - _mean(x)) / (self.factors(x) + _EPSILON)
            case "norm":
                # A vector of zeros has no direction to keep, and stays.
                return x / self.factors(x).clamp_min(torch.finfo(x.dtype).tiny)


def parse_rows(name: str) -> RowNorm:
    """Return the rule of that name, or raise ConfigError."""
    for rule in get_args(RowNorm):
        if name == rule:
            return rule  # type: ignore[no-any-return]  # get_args is untyped
    raise ConfigError(f"row normalisation {name!r} is none of {', '.join(get_args(RowNorm))}")


def _by_site(
    away: Float[Tensor, "vector coordinate"], widths: tuple[int, ...], *, name: str
) -> Float[Tensor, " coordinate"]:
    """Return a scale for each coordinate, by which all sites have the same sum of squares."""
    even = away.shape[1] / len(widths)
    parts = away.split(widths, dim=1)
    if constant := [place for place, own in enumerate(parts, 1) if (own == own[0]).all()]:
        raise ConfigError(
            f"{name}: number {constant[0]} gives the same vector for every trusted input; drop it"
        )
    scales = [(own.square().sum() / len(away) / even).sqrt() for own in parts]
    return torch.cat([scale.expand(n) for scale, n in zip(scales, widths, strict=True)])


def _mean(x: Float[Tensor, "batch coordinate"]) -> Float[Tensor, "batch 1"]:
    return x.mean(dim=1, keepdim=True)
