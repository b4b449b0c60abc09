"""Pieces for what no input of the training has used of a matrix: trained pieces in, more out.

Training says nothing about the part of a matrix that its inputs never reach, because nothing there
changes an answer. What warm-up and chance have put there makes a mechanism that is met for the
first time light an odd handful of pieces, all of which stand for something else. But where inputs
never reach is known: rows span a space, and directions outside it are pieces of their own, active
wherever an input reaches there at all. With ``x`` a row, ``P`` the projection on the space of rows
and ``n`` directions outside, ``x W = (P x) W + sum_n (x . n) (n W)``; trained pieces read ``P x``
alone, which changes nothing for rows that were seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.passes import Passes
from mad.components.parameters.training.thresholds import beside

REACHED: Final = 0.01
"""How far along a direction a row must lie to reach there, in root mean square lengths of rows;
what all rows together do not fill to a tenth of that is outside."""

SETTLED: Final = 1e-3
"""Share of later inputs that may reach where no earlier one did. With more, where inputs never
reach is not yet known, and ordinary ones would use such pieces: by Good and Turing, about as often
as later inputs are the first of their kind."""

Batches: TypeAlias = Iterable[Tensor]
"""Batches of the model's input, of any heights."""


def with_unused(
    passes: Passes,
    parts: Sequence[Subcomponents],
    matrices: Mapping[str, Tensor],
    *,
    early: Batches,
    late: Batches,
) -> tuple[Subcomponents, ...]:
    """Return each layer's pieces, and after them those of what neither half of the inputs has used.

    ``matrices`` are the layers', each ``source x target``. Each coordinate that no row has is a
    piece, such as a neuron that never fires; of what else is outside, singular vectors of the
    matrix are. Nothing is added where later inputs still reach new directions, where all are
    reached, and to embeddings, whose rows are one-hot.
    """
    read = [one for one in parts if one.layer.kind != "embedding"]
    rows = {one.layer.name: _Rows.none(one.layer.source) for one in read}
    for batch in early:
        for name, some in _of(passes, read, batch).items():
            rows[name].add(some.flatten(0, -2))
    before = {name: _Outside.of(one) for name, one in rows.items()}
    fresh, count = dict.fromkeys(rows, 0), 0
    for batch in late:
        count += len(batch)
        for name, some in _of(passes, read, batch).items():
            rows[name].add(some.flatten(0, -2))
            fresh[name] += before[name].reached_by(some)
    settled = {name for name, new in fresh.items() if count and new <= SETTLED * count}
    return tuple(
        _completed(one, matrices[one.layer.name], _Outside.of(rows[one.layer.name]))
        if one.layer.name in settled
        else one
        for one in parts
    )


def _of(
    passes: Passes, parts: Sequence[Subcomponents], batch: Shaped[Tensor, "batch ..."]
) -> Mapping[str, Tensor]:
    looked = passes.look(batch)
    return {one.layer.name: passes.source(looked, one) for one in parts}


@final
@dataclass
class _Rows:
    """The rows of a layer so far: the sum of ``x x^T``, and how many there are."""

    squares: Float64[Tensor, "source source"]
    count: int = 0

    @staticmethod
    def none(size: int) -> "_Rows":
        return _Rows(torch.zeros(size, size, dtype=torch.float64))

    def add(self, rows: Float[Tensor, "row source"]) -> None:
        wide = rows.double()
        self.squares.addmm_(wide.T, wide)
        self.count += len(rows)


@final
@dataclass(frozen=True)
class _Outside:
    """Orthonormal directions in which no row lies, and from where on one reaches there."""

    directions: Float64[Tensor, "source outside"]
    reach: float

    @staticmethod
    def of(rows: _Rows) -> "_Outside":
        """Take coordinates that are nowhere, and directions of the others."""
        reach = REACHED * float((rows.squares.trace() / max(rows.count, 1)).sqrt())
        least = (reach / 10) ** 2
        absent = rows.squares.diagonal() <= least
        held = (~absent).nonzero().squeeze(1)
        values, vectors = torch.linalg.eigh(rows.squares[held][:, held])
        others = torch.zeros(len(absent), int((values <= least).sum()), dtype=torch.float64)
        others[held] = vectors[:, values <= least]
        own = torch.eye(len(absent), dtype=torch.float64)[:, absent]
        return _Outside(torch.cat([own, others], dim=1), reach)

    def reached_by(self, rows: Float[Tensor, "batch *place source"]) -> int:
        """Count the inputs that reach any direction at any place."""
        far = (rows.double() @ self.directions).abs() > self.reach
        return int(far.flatten(1).any(dim=1).sum())

    def pieces(
        self, matrix: Float64[Tensor, "source target"]
    ) -> tuple[Float64[Tensor, "source piece"], Float64[Tensor, "piece target"]]:
        """Return what the matrix does there as rank-one pieces, but for those that do nothing."""
        is_own = (self.directions != 0).sum(dim=0) == 1
        own, others = self.directions[:, is_own], self.directions[:, ~is_own]
        turned, sizes, written = torch.linalg.svd(others.T @ matrix, full_matrices=False)
        v = torch.cat([own, others @ turned], dim=1)
        u = torch.cat([own.T @ matrix, sizes.unsqueeze(1) * written])
        does = u.norm(dim=1) > REACHED * matrix.norm() / len(matrix) ** 0.5
        return v[:, does], u[does]


def _completed(
    part: Subcomponents, matrix: Float[Tensor, "source target"], outside: _Outside
) -> Subcomponents:
    """Let trained pieces read what was used, and add the rest."""
    if not outside.reach or not outside.directions.shape[1]:
        return part
    like, wide = part.v, part.v.double()
    inside = wide - outside.directions @ (outside.directions.T @ wide)
    v, u = outside.pieces(matrix.double())
    return Subcomponents(
        part.layer,
        torch.cat([inside, v], dim=1).to(like),
        torch.cat([part.u, u.to(like)]),
        beside(part.importance, v.to(like), reach=outside.reach),
    )
