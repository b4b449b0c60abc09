"""What the router of a Switch dictionary looks at, and what routing costs, beside chance."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.switch import SwitchEncoder
from mad.components.dictionaries.routing import (
    repeated_share,
    router_agreement,
    router_geometry,
)

LEADING_SHARE = 0.25
"""The encoder's leading directions that router rows are held against, as a share of coordinates:
all directions of a wide encoder span everything, and would explain any row."""


@final
@dataclass(frozen=True, slots=True)
class Router:
    """Whether a router is a down-projection of its encoder's features (``routing``).

    Means over routed experts. ``angle_cosine`` is that of the principal angles between router rows
    and each expert's leading direction; ``r_squared`` the share of a router row within the
    encoder's leading quarter of directions; ``own_cosine`` that of a router row with the mean of
    its expert's encoder rows, and ``other_cosine`` with another's; ``agreement`` the share of
    held-out inputs whose likeliest expert has the largest latents. ``repeated`` is the share of
    latents whose direction another expert has too (cosine 0.9).
    """

    experts: int
    angle_cosine: float
    angle_cosine_by_chance: float
    r_squared: float
    r_squared_by_chance: float
    own_cosine: float
    other_cosine: float
    agreement: float
    agreement_by_chance: float
    repeated: float


def router(dictionary: Dictionary, source: Float[Tensor, "batch source"]) -> Router | None:
    """Measure the router on normalised vectors; None of a dictionary without one."""
    encoder = dictionary.encoder
    if not isinstance(encoder, SwitchEncoder):
        return None
    rank = max(1, int(LEADING_SHARE * encoder.router.shape[0]))
    geometry = router_geometry(encoder, rank=rank)
    agreement = router_agreement(encoder, source)
    return Router(
        experts=encoder.experts,
        angle_cosine=float(geometry.angle_cosines.mean()),
        angle_cosine_by_chance=geometry.angle_cosines_by_chance,
        r_squared=float(geometry.r_squared.mean()),
        r_squared_by_chance=geometry.r_squared_by_chance,
        own_cosine=float(geometry.own_cosine.mean()),
        other_cosine=float(geometry.other_cosine.mean()),
        agreement=agreement.share,
        agreement_by_chance=agreement.by_chance,
        repeated=repeated_share(dictionary.decoder, encoder.experts),
    )
