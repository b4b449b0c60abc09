"""Products of sparse latents with weights, and gradients of both that cost what is active.

Entries are sparse by rows, as in ``Latents``: those of vector ``i`` are ``offsets[i]`` up to
``offsets[i + 1]``. Weights have one row a component. No product makes a table of all vectors by all
components, and weights' gradients are summed a few components at a time, so that they stay in the
processor's cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

PIECE: Final = 1_024
"""Components whose gradients are summed at once: a few megabytes."""


def added(
    values: Float[Tensor, " entry"],
    components: Int64[Tensor, " entry"],
    offsets: Int64[Tensor, " offsets"],
    directions: Float[Tensor, "component coordinate"],
) -> Float[Tensor, "batch coordinate"]:
    """Return the sum of each vector's directions times their values, with gradients."""
    if not torch.is_grad_enabled():
        return _bags(values, components, offsets, directions)
    summed: Tensor = _Added.apply(values, directions, components, offsets)  # type: ignore[no-untyped-call]  # torch
    return summed


def products(
    vectors: Float[Tensor, "batch coordinate"],
    components: Int64[Tensor, " entry"],
    offsets: Int64[Tensor, " offsets"],
    directions: Float[Tensor, "component coordinate"],
    known: Float[Tensor, " entry"] | None = None,
) -> Float[Tensor, " entry"]:
    """Return the inner product of each vector with its directions, with gradients.

    Those ``known`` already are only given gradients. Law: a vector's products do not depend on its
    companions, not even in the last place.
    """
    if not torch.is_grad_enabled():
        return _dots(vectors, components, offsets, directions) if known is None else known
    found: Tensor = _Products.apply(vectors, directions, components, offsets, known)  # type: ignore[no-untyped-call]  # torch
    return found


def even_products(
    vectors: Float[Tensor, "batch coordinate"],
    components: Int64[Tensor, "batch slot"],
    directions: Float[Tensor, "component coordinate"],
) -> Float[Tensor, "batch slot"]:
    """Return the inner products of each vector with as many directions, without gradients.

    Law: they are those of ``products``, to the last place.
    """
    offsets, rows = _even(*components.shape)
    found = _paired(vectors, components.view(-1), offsets[:-1], rows, directions)
    return found.view_as(components)


def even_offsets(batch: int, slots: int) -> Int64[Tensor, " offsets"]:
    """Return where entries begin if each vector has as many; it may be shared, so only read it."""
    return _even(batch, slots)[0]


@lru_cache(maxsize=64)
def _even(batch: int, slots: int) -> tuple[Tensor, Tensor]:
    rows = torch.arange(batch).repeat_interleave(slots)
    return torch.arange(0, batch * slots + 1, max(slots, 1)), rows


def offsets_of(counts: Int64[Tensor, " batch"]) -> Int64[Tensor, " offsets"]:
    """Return where each vector's entries begin, and where the last one's end."""
    return functional.pad(counts.cumsum(dim=0), (1, 0))


@final
@dataclass
class Spare:
    """Memory of gradients that nobody needs any more, for those of the next step.

    Large blocks of fresh memory cost more time than what is summed into them.
    """

    blocks: list[Tensor] = field(default_factory=list)

    @contextmanager
    def reused(self) -> Iterator[None]:
        """Let the gradients computed inside be written here."""
        token = _spare.set(self)
        try:
            yield
        finally:
            _spare.reset(token)

    def keep(self, parameters: Sequence[Tensor]) -> None:
        """Take the gradients away from parameters, which need them no more."""
        self.blocks = [one.grad for one in parameters if one.grad is not None]
        for one in parameters:
            one.grad = None

    def take(self, like: Tensor) -> Tensor:
        """Return a contiguous block of that shape and type, of any content."""
        for place, block in enumerate(self.blocks):
            if block.numel() == like.numel() and block.dtype == like.dtype:
                return _as_rows(self.blocks.pop(place), like)
        return torch.empty_like(like, memory_format=torch.contiguous_format)


_spare: ContextVar[Spare] = ContextVar("_spare")


def _as_rows(block: Tensor, like: Tensor) -> Tensor:
    # The gradient of a transposed weight is a transposed view of its block.
    size, stride = like.shape, (like.shape[1], 1)
    return torch.empty(0, dtype=like.dtype).set_(block.untyped_storage(), 0, size, stride)


@runtime_checkable
class _Context(Protocol):
    """What autograd keeps between the two passes."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors."""
        ...


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context, values: Tensor, directions: Tensor, components: Tensor, offsets: Tensor
    ) -> Tensor:
        ctx.save_for_backward(values, directions, components, offsets)
        return _bags(values, components, offsets, directions)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, directions, components, offsets = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_values = of_directions = None
        if ctx.needs_input_grad[0]:
            of_values = _dots(gradient, components, offsets, directions)
        if ctx.needs_input_grad[1]:
            of_directions = _outer(values, gradient, components, offsets, directions)
        return of_values, of_directions, None, None


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context,
        vectors: Tensor,
        directions: Tensor,
        components: Tensor,
        offsets: Tensor,
        known: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(vectors, directions, components, offsets)
        if known is not None:
            return known.clone()
        return _dots(vectors, components, offsets, directions)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        vectors, directions, components, offsets = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_vectors = of_directions = None
        if ctx.needs_input_grad[0]:
            of_vectors = _bags(gradient, components, offsets, directions)
        if ctx.needs_input_grad[1]:
            of_directions = _outer(gradient, vectors.contiguous(), components, offsets, directions)
        return of_vectors, of_directions, None, None, None


def _bags(values: Tensor, components: Tensor, offsets: Tensor, directions: Tensor) -> Tensor:
    return functional.embedding_bag(
        components,
        directions,
        offsets,
        per_sample_weights=values,
        mode="sum",
        include_last_offset=True,
    )


def _dots(vectors: Tensor, components: Tensor, offsets: Tensor, directions: Tensor) -> Tensor:
    starts = offsets[:-1].contiguous()
    return _paired(vectors, components, starts, _rows(offsets), directions)


def _paired(
    vectors: Tensor, components: Tensor, starts: Tensor, rows: Tensor, directions: Tensor
) -> Tensor:
    # What a sum of directions asks of its weights' gradients is just these inner products.
    found: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        vectors.contiguous(), directions, components, starts, rows, 0
    )
    return found


def _outer(
    values: Tensor, vectors: Tensor, components: Tensor, offsets: Tensor, like: Tensor
) -> Tensor:
    """Return for each component the sum of the vectors that use it, times their values."""
    by_component, order = components.sort(stable=True)
    users, weights = _rows(offsets)[order], values[order]
    starts = offsets_of(by_component.bincount(minlength=len(like)))
    spare = _spare.get(None)
    total = (Spare() if spare is None else spare).take(like)
    for first in range(0, len(like), PIECE):
        bounds = starts[first : first + PIECE + 1]
        low, high = int(bounds[0]), int(bounds[-1])
        total[first : first + PIECE] = _bags(
            weights[low:high], users[low:high], bounds - low, vectors
        )
    return total


def _rows(offsets: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(offsets.numel() - 1), offsets.diff())
