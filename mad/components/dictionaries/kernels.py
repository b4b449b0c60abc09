"""The arithmetic of dictionaries: where their time goes.

Latents are found some vectors at a time, so that no table of all vectors by all components is ever
made. Large weights are screened in half precision first. The values of the latents found are then
computed one by one, so that a vector's do not depend on other vectors, and gradients cost no more
than what is active. Weights are read fastest ``by_component``.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.dictionaries import sparse
from mad.components.dictionaries.kept import Kept
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.screen import Candidates, Screen, fans_of, is_worthwhile, piece

_FAN: Final = 16
"""Members of a group of components of which only the largest is ranked at first."""

_ROWS: Final = 4
"""Rows below which ranking all of them takes less time than the operations that spare it."""

_screens: Final = Kept[Screen]()
_directions: Final = Kept[Tensor]()


def affine(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
) -> Float[Tensor, "batch component"]:
    """Return ``source @ weight + bias``, with gradients."""
    return torch.addmm(bias, source, weight)


def by_component(weight: Float[Tensor, "source component"]) -> Float[Tensor, "source component"]:
    """Return the weight with the numbers of each component side by side in memory."""
    return weight.T.contiguous().T


def largest(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    k: int,
) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
    """Return the k largest of ``source @ weight + bias`` and their components, ascending."""
    directions = _by_rows(weight)
    if not torch.is_grad_enabled():
        products, components = _largest_of_all(source, weight, directions, bias, k)
        # Of few numbers, numpy makes a third of the work that torch does.
        summed = products.numpy()
        summed += bias.detach().numpy().take(components.numpy())
        return products, components
    with torch.no_grad():
        products, components = _largest_of_all(source, weight, directions, bias, k)
    offsets = torch.arange(0, components.numel() + 1, k)
    values = sparse.products(
        source, components.flatten(), offsets, directions, products.flatten()
    ).view_as(components)
    return values + bias[components], components


def largest_among(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    among: Int64[Tensor, " some"],
    k: int,
) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
    """Return the k largest among some components, in no order; as far as those go."""
    directions = _by_rows(weight)
    k = min(k, among.numel())
    with torch.no_grad():
        those, biases = directions[among].T, bias[among]
        chosen = [
            affine(some, those, biases).topk(k, dim=1, sorted=False).indices
            for some in source.split(piece(among.numel()))
        ]
        components = among[torch.cat(chosen)]
    offsets = torch.arange(0, components.numel() + 1, k)
    products = sparse.products(source, components.flatten(), offsets, directions)
    return products.view_as(components) + bias[components], components


def thresholded(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    threshold: Float[Tensor, " component"],
) -> Latents:
    """Return the entries of ``source @ weight + bias`` that exceed their component's threshold.

    Values have gradients, the choice has none.
    """
    directions = _by_rows(weight)
    with torch.no_grad():
        found = [
            _exceeding(some, directions, bias, threshold, candidates)
            for some, candidates in _searched(source, weight, bias, threshold)
        ]
        counts, components, products = (torch.cat(parts) for parts in zip(*found, strict=True))
    offsets = sparse.offsets_of(counts)
    values = sparse.products(source, components, offsets, directions, products)
    return Latents(offsets, components, values + bias[components])


def to_unit_length(
    directions: Float[Tensor, "component coordinate"], widths: tuple[int, ...] = ()
) -> None:
    """Scale each row to length one, in place and unseen by gradients.

    Of several sites, of ``widths`` coordinates, the lengths at all of them add up to one: a penalty
    on magnitudes is then that of Lindsey et al. 2024, which lets latents be of one site alone.
    """
    with torch.no_grad():
        if len(widths) > 1:
            parts = directions.split(widths, dim=1)
            lengths = torch.stack([part.norm(dim=1, keepdim=True) for part in parts]).sum(dim=0)
            directions.div_(lengths.clamp_min(1e-8))
            return
        # In pieces, which the processor's cache holds from being measured to being divided.
        for some in directions.split(sparse.PIECE):
            some.div_(torch.linalg.vector_norm(some, dim=1, keepdim=True).clamp_min(1e-8))


def _by_rows(weight: Tensor) -> Tensor:
    """Return one row a component; the copy is kept where weights are fixed and lie otherwise."""
    if weight.T.is_contiguous() or weight.requires_grad:
        return weight.T.contiguous()
    return _directions.of((weight,), None, lambda _: weight.T.contiguous())


def _searched(
    source: Tensor, weight: Tensor, bias: Tensor, threshold: Tensor | None = None, *, k: int = 1
) -> Iterator[tuple[Tensor, Candidates | None]]:
    """Yield some vectors at a time, with the components to look at; all of them without."""
    pieces = source.split(piece(bias.numel()))
    if not is_worthwhile(source, weight, k):
        yield from ((some, None) for some in pieces)
        return
    fans = fans_of(bias.numel(), k)
    if threshold is None:
        screen = _screens.of(
            (weight, bias), fans, lambda old: Screen.of(weight, bias, fans=fans, memory=old)
        )
        found = screen.largest(source, k)
    else:
        screen = _screens.of(
            (weight, bias, threshold),
            fans,
            lambda old: Screen.of(weight, bias - threshold, fans=fans, memory=old),
        )
        found = screen.positive(source)
    yield from zip(pieces, found, strict=True)


def _largest_of_all(
    source: Tensor, weight: Tensor, directions: Tensor, bias: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return the products and components of the largest, some vectors at a time."""
    if len(source) <= piece(bias.numel()) and not is_worthwhile(source, weight, k):
        return _largest(source, directions, bias, k, None)
    found = [
        _largest(some, directions, bias, k, candidates)
        for some, candidates in _searched(source, weight, bias, k=k)
    ]
    products, components = zip(*found, strict=True)
    return torch.cat(products), torch.cat(components)


def _largest(
    source: Tensor, directions: Tensor, bias: Tensor, k: int, found: Candidates | None
) -> tuple[Tensor, Tensor]:
    """Return the products and components of the largest, ascending by component."""
    if found is None or found.unsure.all():
        best = _places(affine(source, directions.T, bias), k).numpy()
        components = torch.from_numpy(np.sort(best, axis=1))
        return sparse.even_products(source, components, directions), components
    counts = found.rows.bincount(minlength=len(source))
    offsets = sparse.offsets_of(counts)
    products = sparse.products(source, found.components, offsets, directions)
    # One line of slots a vector, as many as the longest list of candidates needs.
    slots = max(int(counts.max()), k + 1)
    places = found.rows * slots + torch.arange(len(products)) - offsets[found.rows]
    values = products.new_full((len(source), slots), -torch.inf)
    values.view(-1)[places] = products + bias[found.components]
    ranked, chosen = values.topk(k + 1, dim=1)
    # Which of equal ones is chosen must not depend on how many candidates others have.
    unsure = found.unsure | (ranked[:, k - 1] == ranked[:, k])
    entries = torch.zeros_like(values, dtype=torch.int64)
    entries.view(-1)[places] = torch.arange(len(products))
    entries = entries.gather(1, chosen[:, :k])
    components, order = found.components[entries].sort(dim=1)
    products = products[entries].gather(1, order)
    if unsure.any():
        products[unsure], components[unsure] = _largest(source[unsure], directions, bias, k, None)
    return products, components


def _places(table: Tensor, k: int) -> Tensor:
    """Return where the k largest of each row are, in no order.

    They are in the k groups with the largest maxima, so that few numbers of a long row are ranked.
    """
    groups = table.shape[1] // _FAN
    if len(table) < _ROWS or table.shape[1] % _FAN or groups < 2 * _FAN * k:
        return table.topk(k, dim=1, sorted=False).indices
    maxima = table.view(len(table), _FAN, groups).amax(dim=1)
    best = maxima.topk(k, dim=1, sorted=False).indices
    members = best.numpy()[:, :, None] + _members(table.shape[1], groups)
    places = torch.from_numpy(members.reshape(len(table), -1))
    return places.gather(1, table.gather(1, places).topk(k, dim=1, sorted=False).indices)


@lru_cache(maxsize=64)
def _members(components: int, groups: int) -> Int64[np.ndarray, " member"]:
    """Return where the members of the first group are; it is shared, so only read it."""
    return np.arange(0, components, groups)


def _exceeding(
    source: Tensor, directions: Tensor, bias: Tensor, threshold: Tensor, found: Candidates | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many components each vector has, which, and their products."""
    if found is None:
        rows, components = (affine(source, directions.T, bias) > threshold).nonzero().unbind(dim=1)
    else:
        # Of vectors that nothing is known of, every component is a candidate.
        rows, components = found.rows, found.components
        if found.unsure.any():
            unsure = found.unsure.nonzero().squeeze(1)
            above = affine(source[unsure], directions.T, bias) > threshold
            more, others = above.nonzero().unbind(dim=1)
            rows, components = torch.cat([rows, unsure[more]]), torch.cat([components, others])
        order = (rows * len(bias) + components).argsort()
        rows, components = rows[order], components[order]
    offsets = sparse.offsets_of(rows.bincount(minlength=len(source)))
    products = sparse.products(source, components, offsets, directions)
    values = products + bias[components]
    active = (values > threshold[components]) & (values != 0)
    counts = rows[active].bincount(minlength=len(source))
    return counts, components[active], products[active]
