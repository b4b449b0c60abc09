"""Where vectors lie and how far they spread: what makes sites of different sizes alike."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.errors import ConfigError


@final
@dataclass(frozen=True)
class Frame:
    """A centre and one scale: ``normalised`` vectors have mean zero and unit mean square."""

    centre: Float[Tensor, " coordinate"]
    scale: Float[Tensor, ""]

    @staticmethod
    def of(vectors: Float[Tensor, "vector coordinate"], *, name: str) -> "Frame":
        """Measure vectors of what messages call ``name``.

        Raises:
            ConfigError: when there are too few vectors, they are all equal, or not finite.
        """
        if len(vectors) < 2:  # noqa: PLR2004  # a spread needs two
            raise ConfigError(f"{name}: {len(vectors)} vectors cannot train a dictionary")
        centre = vectors.mean(dim=0)
        scale = (vectors - centre).square().mean().sqrt()
        if not scale.isfinite():
            raise ConfigError(f"{name} gives NaN or infinite numbers on trusted inputs")
        # Not by the scale: the mean of equal vectors may miss them in the last place.
        if (vectors == vectors[0]).all():
            raise ConfigError(f"{name} gives the same vector for every trusted input; drop it")
        return Frame(centre, scale)

    @staticmethod
    def identity(coordinates: int) -> "Frame":
        """Leave vectors as they are."""
        return Frame(torch.zeros(coordinates), torch.ones(()))

    def normalised(self, x: Float[Tensor, "batch coordinate"]) -> Float[Tensor, "batch coordinate"]:
        """Return vectors as the encoder takes them."""
        return (x - self.centre) / self.scale

    def restored(self, u: Float[Tensor, "batch coordinate"]) -> Float[Tensor, "batch coordinate"]:
        """Return what ``normalised`` made of vectors to what they were."""
        return self.centre + self.scale * u
