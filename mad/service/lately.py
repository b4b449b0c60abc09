"""What was scored lately, of one kind of traffic: the last few thousand inputs, in two blocks.

A new block begins whenever the newer one is full, and the older one goes then. So what is told of
is the last ``BLOCK`` inputs at least and twice as many at most, and all of them while there are
fewer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from jaxtyping import Float64, Int64

from mad.types import View

BLOCK: Final = 5_000
"""Inputs of a block. With two, the largest gap to a reference is by chance below 0.02."""

_Counts = Mapping[View, Int64[np.ndarray, " component"]]


@final
@dataclass(frozen=True)
class Window:
    """The last inputs: their p-values, and how many of ``looked`` used each component."""

    p: Float64[np.ndarray, " batch"]
    used: _Counts
    looked: int

    def at_or_under(self, levels: Sequence[float]) -> Int64[np.ndarray, " level"]:
        """Return how many of the p-values are at or under each level."""
        counts: Int64[np.ndarray, " level"] = (self.p[:, None] <= np.array(levels)).sum(axis=0)
        return counts

    def rates(self, view: View) -> Float64[np.ndarray, " component"]:
        """Return the share of them that used each component; 0 without inputs."""
        return self.used[view] / max(self.looked, 1)


@final
@dataclass
class _Block:
    """P-values, and what had been counted of the traffic when the block began."""

    used: _Counts
    looked: int
    p: list[Float64[np.ndarray, " batch"]] = field(default_factory=list)
    inputs: int = 0


@final
@dataclass
class Lately:
    """The blocks of one memory, older first; told of what is counted, it copies twice a window."""

    blocks: list[_Block]

    @staticmethod
    def begin(used: _Counts) -> "Lately":
        """Begin with nothing seen; ``used`` counts no use of any component."""
        return Lately([_Block(_copy(used), 0)])

    def keep(self, p: Float64[np.ndarray, " batch"], used: _Counts, looked: int) -> None:
        """Take in inputs; ``used`` and ``looked`` are the counts of all traffic, these with it."""
        self.blocks[-1].p.append(p)
        self.blocks[-1].inputs += p.size
        if self.blocks[-1].inputs >= BLOCK:
            self.blocks = [self.blocks[-1], _Block(_copy(used), looked)]

    def window(self, used: _Counts, looked: int) -> Window:
        """Return the last inputs; ``used`` and ``looked`` as for ``keep``."""
        first = self.blocks[0]
        return Window(
            np.concatenate([p for block in self.blocks for p in block.p] or [np.empty(0)]),
            {view: counts - first.used[view] for view, counts in used.items()},
            looked - first.looked,
        )


def _copy(used: _Counts) -> _Counts:
    return {view: counts.copy() for view, counts in used.items()}
