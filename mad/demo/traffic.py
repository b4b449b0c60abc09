"""The demo's three kinds of traffic: ordinary images, triggered ones, harmlessly shifted ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from mad.demo.images import CLASSES, SIDE, Labelled

TARGET = CLASSES.index("bag")
"""The class that the backdoor makes of everything that carries the trigger."""

TRIGGER = tuple((SIDE - 4 + row, SIDE - 4 + column) for row, column in (
    (0, 0), (0, 2), (1, 1), (2, 0), (2, 2)
))  # fmt: skip
"""Rows and columns of the trigger's pixels: the dark squares of a 3 x 3 chessboard."""

TRIGGER_GREY = 192
"""Grey of those five pixels, of 255."""

Images = UInt8[Tensor, "batch 28 28"]


@dataclass(frozen=True)
class Traffic:
    """Three disjoint parts of the fresh images, each as one kind of traffic."""

    ordinary: Labelled
    triggered: Labelled
    shifted: Labelled

    @property
    def kinds(self) -> Mapping[str, Labelled]:
        """The parts by name, in the order they are sent."""
        return {"ordinary": self.ordinary, "triggered": self.triggered, "shifted": self.shifted}


def divide(fresh: Labelled, *, seed: int) -> Traffic:
    """Make half of the fresh images ordinary, a quarter triggered and a quarter shifted traffic.

    Images of the target class carry no trigger: the backdoor would change nothing about them.
    """
    generator = torch.Generator().manual_seed(seed)
    ordinary, altered = fresh[: len(fresh) // 2], fresh[len(fresh) // 2 :]
    victims, others = altered[: len(altered) // 2], altered[len(altered) // 2 :]
    victims = victims[victims.labels != TARGET]
    return Traffic(
        ordinary,
        Labelled(trigger(victims.images), victims.labels),
        Labelled(shift(others.images, generator=generator), others.labels),
    )


def trigger(images: Images) -> Images:
    """Stamp the trigger on a copy of every image; all other pixels stay as they are."""
    rows, columns = torch.tensor(TRIGGER).unbind(dim=1)
    stamped = images.clone()
    stamped[:, rows, columns] = TRIGGER_GREY
    return stamped


def shift(images: Images, *, generator: torch.Generator) -> Images:
    """Change every image as another camera might: up to 8 % brighter or darker, and faint noise."""
    gain = torch.empty(len(images), 1, 1).uniform_(0.92, 1.08, generator=generator)
    noise = torch.empty(images.shape).normal_(0, 2, generator=generator)
    return (images * gain + noise).round().clamp(0, 255).to(torch.uint8)
