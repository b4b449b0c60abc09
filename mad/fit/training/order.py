"""In which order inputs are read, and which of them are in the buffer when."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

READ = 256
"""Inputs that the model is run on at a time."""


@final
@dataclass(frozen=True)
class Order:
    """Inputs read in pieces, shuffled anew each time round, without end.

    The buffer has two halves, of ``pieces`` each; half ``n`` of the order lies in half ``n % 2``.
    ``pieces`` of 0 stands for a buffer of everything, in the order of the data. What is read when
    is a function of these numbers alone, so that a training that goes on finds its buffer again.
    """

    inputs: int
    pieces: int
    seed: int
    size: int = READ

    @staticmethod
    def within(inputs: int, capacity: int, *, seed: int, size: int = READ) -> "Order":
        """Fit a buffer of that many inputs, or of two where not even those fit.

        Pieces are at most ``size``, and shorter where a half would not hold one.
        """
        size = min(size, max(capacity // 2, 1))
        if inputs <= max(capacity, 2):
            return Order(inputs, 0, seed, size)
        return Order(inputs, max(capacity // (2 * size), 1), seed, size)

    @property
    def is_whole(self) -> bool:
        """Whether the buffer holds everything."""
        return self.pieces == 0

    @property
    def held(self) -> int:
        """How many inputs are in the buffer."""
        return self.inputs if self.is_whole else 2 * self.pieces * self.size

    def everything(self) -> list[Int64[Tensor, " _"]]:
        """Return all inputs, in pieces."""
        return list(torch.arange(self.inputs).split(self.size))

    def half(self, number: int) -> list[Int64[Tensor, " _"]]:
        """Return the pieces of one half, each ascending.

        A piece is a run of neighbours, which is quick to read; runs begin elsewhere each time
        round, and what is left of the last is read another time.
        """
        around = self.inputs // self.size
        places = range(number * self.pieces, (number + 1) * self.pieces)
        rounds = {one: self._round(one) for one in {place // around for place in places}}
        return [rounds[place // around][place % around].sort().values for place in places]

    def _round(self, number: int) -> Int64[Tensor, "piece input"]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        shift = int(torch.randint(self.inputs, (), generator=generator))
        runs = self.inputs // self.size
        whole = torch.arange(self.inputs).roll(shift)[: runs * self.size]
        return whole.reshape(runs, self.size)[torch.randperm(runs, generator=generator)]
