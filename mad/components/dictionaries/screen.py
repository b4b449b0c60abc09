"""Which components a vector may activate, found in half precision without missing any.

Products of bfloat16 numbers, where the processor has them, take a quarter of the time of those in
single precision, and their error has a bound. So they say which few components can be among the
largest, or above a threshold; single precision decides among these.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

import torch
from jaxtyping import BFloat16, Bool, Float, Int64
from torch import Tensor

_TABLE = 2**22
"""Entries of the table of some vectors by all components that is made at once."""

_FEWEST = 64
"""Vectors below which reading the weights takes longer than multiplying by them."""

_FEW = 8
"""Vectors below which the weights are read from memory no faster in half precision."""

_ERROR = 2.0**-8 * 1.05
"""Largest error of a product of rounded vectors, over the product of their lengths.

Each is off by at most 2**-9 of its length; the rest is for sums in single precision."""

_ROUNDED = 2.0**-8
"""Largest relative error of a number rounded to bfloat16, doubled."""

_FLOOD = 1 / 4
"""Share of groups with candidates beyond which single precision is faster for all."""

_GROUPS = 8
_BLOCK = 32
_NEVER: Final = -1e30


@final
@dataclass(frozen=True)
class Candidates:
    """Components that may be active, by vector; of those ``unsure`` nothing is known."""

    rows: Int64[Tensor, " candidate"]
    components: Int64[Tensor, " candidate"]
    unsure: Bool[Tensor, " batch"]


@final
@dataclass(frozen=True)
class Screen:
    """Weights in half precision, one row a component, with the length of the longest.

    The bias is two more coordinates: the number rounded, and what rounding took away. Components
    are looked through in groups of groups, of ``fans`` members each.
    """

    rows: BFloat16[Tensor, "padded joined"]
    longest: Float[Tensor, ""]
    fans: tuple[int, ...]

    @staticmethod
    def of(
        weight: Float[Tensor, "source component"],
        bias: Float[Tensor, " component"],
        *,
        fans: tuple[int, ...],
        memory: "Screen | None" = None,
    ) -> "Screen":
        """Round the weights, in the ``memory`` of another screen that nobody needs any more."""
        coordinates = weight.shape[0]
        shape = (_padded(bias.numel(), fans), _up(coordinates + 2, _BLOCK))
        if memory is not None and memory.rows.shape == shape:
            rows = memory.rows
        else:
            rows = torch.zeros(shape, dtype=torch.bfloat16)
            rows[:, coordinates] = _NEVER
        own = rows[: bias.numel()]
        own[:, :coordinates] = weight.T
        # Minus infinity would make NaN of a product with zero.
        own[:, coordinates] = bias.clamp_min(_NEVER)
        own[:, coordinates + 1] = bias.clamp_min(_NEVER) - own[:, coordinates].float()
        return Screen(rows, torch.linalg.vector_norm(weight.T, dim=1).amax(), fans)

    def largest(self, source: Float[Tensor, "batch source"], k: int) -> Iterator[Candidates]:
        """Find all that can be among the k largest of each vector, some vectors at a time."""
        for levels, error in self._tables(source):
            # As many groups have a member that is at least this, so the k-th largest is, too.
            least = levels[-1].topk(k, dim=1, sorted=False).values.amin(dim=1).float()
            yield _at_least(levels, self.fans, _below(_below(least) - 2 * error))

    def positive(self, source: Float[Tensor, "batch source"]) -> Iterator[Candidates]:
        """Find all that can be above zero, some vectors at a time."""
        for levels, error in self._tables(source):
            yield _at_least(levels, self.fans, _below(-error))

    def _tables(
        self, source: Float[Tensor, "batch source"]
    ) -> Iterator[tuple[list[Tensor], Float[Tensor, " some"]]]:
        coordinates = source.shape[1]
        rounded = torch.zeros(len(source), self.rows.shape[1], dtype=torch.bfloat16)
        rounded[:, :coordinates] = source
        rounded[:, coordinates : coordinates + 2] = 1
        errors = torch.linalg.vector_norm(source, dim=1) * self.longest * _ERROR
        size = piece(len(self.rows))
        table = torch.empty(min(size, len(source)), len(self.rows), dtype=torch.bfloat16)
        for some, error in zip(rounded.split(size), errors.split(size), strict=True):
            levels = [torch.mm(some, self.rows.T, out=table[: len(some)])]
            for fan in self.fans:
                levels.append(levels[-1].view(len(some), fan, -1).amax(dim=1))
            yield levels, error


def piece(components: int) -> int:
    """Return how many vectors to compare with so many components at once."""
    return max(_FEWEST, _TABLE // components)


def is_worthwhile(
    source: Float[Tensor, "batch source"], weight: Float[Tensor, "source component"], k: int
) -> bool:
    """Whether screening is possible, and saves more than it costs."""
    return (
        source.dtype == weight.dtype == torch.float32
        and source.shape[0] >= _FEW
        and source.shape[0] * weight.numel() >= _TABLE
        and weight.shape[1] >= 4 * _GROUPS * k
        and _has_bfloat16()
    )


def _at_least(levels: Sequence[Tensor], fans: Sequence[int], floor: Tensor) -> Candidates:
    """Descend from groups that have a member at the floor or above to the members."""
    flooded = (levels[-1] >= floor.unsqueeze(1)).sum(dim=1) > _FLOOD * levels[-1].shape[1]
    unsure = flooded | ~floor.isfinite()
    floor = floor.masked_fill(unsure, torch.inf)
    rows, places = (levels[-1] >= floor.unsqueeze(1)).nonzero().unbind(dim=1)
    for level, above, fan in zip(levels[-2::-1], levels[:0:-1], fans[::-1], strict=True):
        children = torch.arange(fan) * above.shape[1]
        found = level.view(-1)[(rows * level.shape[1] + places).unsqueeze(1) + children]
        parents, child = (found >= floor[rows].unsqueeze(1)).nonzero().unbind(dim=1)
        rows, places = rows[parents], places[parents] + children[child]
    return Candidates(rows, places, unsure)


def _below(number: Tensor) -> Tensor:
    return number - _ROUNDED * number.abs()


def fans_of(components: int, k: int) -> tuple[int, ...]:
    """Return how many members groups have, for a search of up to the k largest."""
    # With fewer groups, many of the k largest share one, and the floor is far below them.
    return (4, 8) if components >= _GROUPS * 32 * k else (4,)


def _padded(components: int, fans: Sequence[int]) -> int:
    return _up(components, math.prod(fans))


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@lru_cache(maxsize=1)
def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers fast, and sums them as is assumed."""
    able = torch.cpu.get_capabilities()
    if not (able.get("amx_bf16") or able.get("avx512_bf16")):
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 64, 1_024, generator=generator).bfloat16()
    exact = left.double() @ right.double().T
    lengths = left.double().norm(dim=1, keepdim=True) * right.double().norm(dim=1)
    # What the factors' own rounding adds is no error here, which leaves a twentieth of the bound.
    allowed = lengths * _ERROR / 20 + exact.abs() * _ROUNDED
    return bool(((left @ right.T).double() - exact).abs().le(allowed).all())
