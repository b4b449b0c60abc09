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

_NARROW = 2_048
"""Components below which sorting candidates takes longer than the whole table in single."""

_HALF = 2.0**-8 * 1.01
"""Largest error of a number rounded to bfloat16, as a share of it."""

_SINGLE = 2.0**-24
"""The same in single precision, in which products are summed."""

_FLOOD = 1 / 2
"""Share of groups with candidates beyond which single precision is faster for all."""

_GROUPS = 8
_BLOCK = 32
_BIASES = 3
_PIECE = 256
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
    """Weights in half precision, one row a component, and how far from them they may be.

    ``longest`` is the largest length of a component's weights, ``lost`` that of what rounding took
    away, ``bias`` the largest bias. Biases are three more coordinates, each what the ones before
    leave. Components are looked through in groups of groups, of ``fans`` members each.
    """

    rows: BFloat16[Tensor, "padded joined"]
    longest: Float[Tensor, ""]
    lost: Float[Tensor, ""]
    bias: Float[Tensor, ""]
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
        shape = (_padded(bias.numel(), fans), _up(coordinates + _BIASES, _BLOCK))
        if memory is not None and memory.rows.shape == shape:
            rows = memory.rows
        else:
            rows = torch.zeros(shape, dtype=torch.bfloat16)
            rows[:, coordinates] = _NEVER
        # Minus infinity would make NaN of a product with zero.
        rest = bias.clamp_min(_NEVER)
        heaviest = torch.where(rest > _NEVER, rest.abs(), 0.0).amax()
        longest, lost = _rounded(weight.T, rows[: bias.numel(), :coordinates])
        for place in range(coordinates, coordinates + _BIASES):
            rows[: bias.numel(), place] = rest
            rest = rest - rows[: bias.numel(), place].float()
        return Screen(rows, longest, lost, heaviest, fans)

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
        taken, lost = _lengths(source, rounded[:, :coordinates])
        rounded[:, coordinates : coordinates + _BIASES] = 1
        summed = self.rows.shape[1] * _SINGLE * (taken * self.longest + self.bias)
        errors = lost * self.longest + (taken + lost) * self.lost + summed
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
        and weight.shape[1] >= max(_NARROW, 4 * _GROUPS * k)
        and has_bfloat16()
    )


def _rounded(weights: Tensor, into: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows, and return the largest length of one and of what rounding took away."""
    # In pieces, which the processor's cache holds while they are measured.
    found = [
        torch.stack([one.amax() for one in _lengths(some, rounded)])
        for some, rounded in zip(weights.split(_PIECE), into.split(_PIECE), strict=True)
    ]
    longest, lost = torch.stack(found).amax(dim=0)
    return longest, lost


def _lengths(rows: Tensor, into: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows, and return the length of each and of what rounding took away."""
    lost = into.copy_(rows).float().sub_(rows)
    return torch.linalg.vector_norm(rows, dim=1), torch.linalg.vector_norm(lost, dim=1)


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
    return number - _HALF * number.abs()


def fans_of(components: int, k: int) -> tuple[int, ...]:
    """Return how many members groups have, for a search of up to the k largest."""
    # With fewer groups, many of the k largest share one, and the floor is far below them.
    return (4, 8) if components >= _GROUPS * 32 * k else (4,)


def _padded(components: int, fans: Sequence[int]) -> int:
    return _up(components, math.prod(fans))


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@lru_cache(maxsize=1)
def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers fast, and sums them as is assumed."""
    able = torch.cpu.get_capabilities()
    if not (able.get("amx_bf16") or able.get("avx512_bf16")):
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 64, 1_024, generator=generator).bfloat16()
    exact = left.double() @ right.double().T
    allowed = _SINGLE * 1_024 * left.double().norm(dim=1, keepdim=True) * right.double().norm(dim=1)
    return bool(((left @ right.T).double() - exact).abs().le(allowed + _HALF * exact.abs()).all())
