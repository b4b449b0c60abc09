"""Batch heights at which the same row gets the same numbers, bit for bit, whatever its company.

Products may round otherwise at another height of the batch, and a rarity magnifies that. So the
model is run at many heights before it serves, and then only at those that agree, with rows to fill.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from mad.types import Inputs, batch_size

Signature: TypeAlias = bytes
"""A digest of everything that one input's verdict depends on."""

Run: TypeAlias = Callable[[Inputs], Sequence[Signature]]
"""Runs the model on a batch, and returns the signature of each row."""

COMMON: Final = 4
"""Rows, at least, that are run at every height, for heights to be compared by."""

_BUDGET_S: Final = 1.0
"""How long heights beyond those always tried may take, as far as it can be foreseen."""


@final
@dataclass(frozen=True)
class Heights:
    """Heights at which rows do not depend on their company, ascending; none means any will do."""

    agreeing: tuple[int, ...] = ()

    def runs(self, count: int) -> Iterator[tuple[int, int, int]]:
        """Say from which input up to which to run together, and at which height, none for any."""
        if not self.agreeing:
            yield 0, count, count
            return
        most = self.agreeing[-1]
        for start in range(0, count, most):
            stop = min(start + most, count)
            yield start, stop, next(one for one in self.agreeing if one >= stop - start)

    def __str__(self) -> str:
        """Name them shortly, such as ``1, 4-64``."""
        spans: list[list[int]] = []
        for one in self.agreeing:
            if spans and one == spans[-1][1] + 1:
                spans[-1][1] = one
            else:
                spans.append([one, one])
        return (
            ", ".join(f"{low}-{high}" if high > low else f"{low}" for low, high in spans) or "any"
        )


ANY: Final = Heights()


def filled(inputs: Inputs, height: int) -> Mapping[str, Shaped[Tensor, "height ..."]]:
    """Repeat the first input until there are as many as the height."""
    extra = height - batch_size(inputs)
    if extra <= 0:
        return inputs
    return {
        name: torch.cat([tensor, tensor[:1].expand(extra, *tensor.shape[1:])])
        for name, tensor in inputs.items()
    }


def agreeing(
    run: Run, rows: Inputs, *, most: int, clock: Callable[[], float] = time.perf_counter
) -> Heights | None:
    """Return the largest set of heights up to ``most`` that give rows the same.

    There are as many rows, and no fewer than ``COMMON``.

    Some heights are always tried, in time that grows with the number of rows; they alone decide
    what is the same, so the answer's numbers do not depend on how fast the machine is. The others
    are tried too if that is quick. If no two agree, a model that repeats itself runs one input at a
    time; None means that it does not even do that.
    """
    assert batch_size(rows) >= max(most, COMMON)
    first = _some(most)
    start = clock()
    found = _tried(run, rows, first)
    took = clock() - start
    by_common: dict[tuple[Signature, ...], list[int]] = defaultdict(list)
    for height, seen in found.items():
        by_common[_common(seen)].append(height)
    alike = max(by_common.values(), key=lambda heights: (len(heights), heights[-1]), default=[])
    if len(alike) < 2:  # noqa: PLR2004  # a height agrees with itself if it is tried twice
        again = _tried(run, rows, [1])
        return Heights((1,)) if 1 in found and again.get(1) == found[1] else None
    others = [height for height in range(1, most + 1) if height not in first]
    if took * sum(others) <= _BUDGET_S * sum(first):
        found |= _tried(run, rows, others)
    expected = found[alike[-1]]
    return Heights(
        tuple(
            height
            for height, seen in sorted(found.items())
            if all(expected.get(row, one) == one for row, one in seen.items())
        )
    )


_Seen: TypeAlias = Mapping[int, Signature]


def _some(most: int) -> list[int]:
    """Return the heights always tried: around powers of two, where libraries change their minds."""
    kept = {1, most}
    power = 1
    while power <= 2 * most:
        kept |= {power - 1, power, power + 1, power * 5 // 4, power * 3 // 2, power * 7 // 4}
        power *= 2
    return sorted(height for height in kept if 1 <= height <= most)


def _common(seen: _Seen) -> tuple[Signature, ...]:
    return tuple(seen[row] for row in range(COMMON))


def _tried(run: Run, rows: Inputs, heights: Iterable[int]) -> dict[int, _Seen]:
    """Return each row's signature at each height at which it is one, at different places."""
    found = {height: _seen(run, rows, height) for height in heights}
    return {height: seen for height, seen in found.items() if seen is not None}


def _seen(run: Run, rows: Inputs, height: int) -> _Seen | None:
    """Run as many rows as the height, at least those in common, each once or more."""
    count = max(height, COMMON)
    # At each height a row has another place.
    order = (torch.arange(-(-count // height) * height).flip(0) + height // 3) % count
    seen: dict[int, Signature] = {}
    for places in order.split(height):
        for row, signature in zip(places.tolist(), run(_taken(rows, places)), strict=True):
            if seen.setdefault(row, signature) != signature:
                return None
    return seen


def _taken(
    rows: Inputs, places: Int64[Tensor, " some"]
) -> Mapping[str, Shaped[Tensor, "some ..."]]:
    return {name: tensor[places] for name, tensor in rows.items()}
